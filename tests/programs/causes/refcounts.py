"""Prints the counts of references to objects of many kinds, and what the
collector counts: watched or not, they are the same. Takes three seconds, so that
snapshots fall into it."""

import collections
import gc
import sys
import threading


class Plain:
    pass


class Slots:
    __slots__ = ("value",)


def generator():
    yield 1


def closure():
    cell = [1]
    return lambda: cell


OBJECTS = {
    "list": [1, 2],
    "dict": {"a": 1},
    "set": {1},
    "bytes": b"%d bytes" % len(sys.argv),
    "str": "text %d" % len(sys.argv),
    "int": 10**30 + len(sys.argv),
    "tuple": (len(sys.argv), []),
    "instance": Plain(),
    "slots": Slots(),
    "class": Plain,
    "function": closure,
    "closure": closure(),
    "generator": generator(),
    "deque": collections.deque([1]),
    "exception": ValueError("x"),
    "module": collections,
    "code": closure.__code__,
    "lock": threading.Lock(),
}


def look(when):
    # Each time under other circumstances: new stacks, new threads, garbage.
    threading.Event().wait(0.6)
    print(when, {name: sys.getrefcount(value) for name, value in OBJECTS.items()})


def rings(count):
    for _ in range(count):
        ring = [b"x" * 100]
        ring.append(ring)


def recurse(depth):
    return [depth, recurse(depth - 1)] if depth else []


gc.disable()
gc.collect()
look("at first")
rings(1000)
look("with garbage")
print("collected", gc.collect())
kept = [recurse(depth) for depth in range(50)]
look("after new stacks")
thread = threading.Thread(target=look, args=("in a thread",))
thread.start()
thread.join()
print("objects", [len(gc.get_objects(generation)) > 0 for generation in range(3)])
print("referrers", len(gc.get_referrers(OBJECTS["instance"])), len(gc.get_referrers(OBJECTS["list"])))
look("at last")
