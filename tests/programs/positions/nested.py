"""Python and native code call each other, in ways drawn at random: some calls share all their
outer frames with the one before, some few. Prints for each block that is kept its size and the
functions outside it, innermost first, with null where native code called them."""
import functools
import json
import random
import sys

KEPT, TOLD = [], []
GO = compile("go(rest)", "exec.py", "exec")


def keep():
    size = 20_000 + 16 * len(TOLD)
    TOLD.append({"size": size, "stack": stack()})
    KEPT.append(bytes(size))


def stack():
    frame, names = sys._getframe(1), []
    while frame:
        name = frame.f_code.co_name
        names.append(name)
        if name.startswith("from_c") or name == "<module>":
            names.append(None)
        frame = frame.f_back
    return names


def go(rest):
    if not rest:
        return keep()
    return rest[0](rest[1:])


def directly(rest):
    go(rest)


def through_two(rest):
    directly(rest)


def sort(rest):
    def from_c_key(_):
        go(rest)
        return 0
    sorted([0], key=from_c_key)


def reduce(rest):
    def from_c_reduce(_, __):
        go(rest)
    functools.reduce(from_c_reduce, [0, 0])


def mapped(rest):
    def from_c_map(_):
        go(rest)
    list(map(from_c_map, [0]))


def executed(rest):
    exec(GO, {"go": go, "rest": rest})


random.seed(3)
THROUGH_C = [sort, reduce, mapped, executed]
way, gone = [], set()
while len(TOLD) < 500:
    # The next one leaves the way of the last one somewhere.
    del way[random.randrange(len(way) + 1):]
    for _ in range(random.randrange(8)):
        steps = [directly, through_two]
        if sum(step in THROUGH_C for step in way) < 7:
            steps += THROUGH_C
        way.append(random.choice(steps))
    del way[24:]
    if tuple(way) not in gone:
        gone.add(tuple(way))
        go(way)
print(json.dumps(TOLD))
