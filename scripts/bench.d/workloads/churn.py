"""Small objects made and dropped: instances, tuples, dicts, lists, strings.

With a second argument, every so many rounds what was made is kept to the end.
"""

import sys


class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y


class Cell:
    __slots__ = ("key", "next")

    def __init__(self, key, next):
        self.key = key
        self.next = next


def instances(i):
    return Point(i, Cell(i, Cell(i, None)))


def tuples(i):
    return ((i, i + 1), (i + 2, i + 3, i + 4), float(i))


def dicts(i):
    return {"id": i, "tags": {"a": i, "b": None}}


def lists(i):
    return [[i], [i, i], [j for j in range(5)]]


def strings(i):
    return ("item-%d" % i).upper().encode()


def main(rounds, keep_every):
    kept = []
    for i in range(1000, 1000 + rounds):
        made = instances(i), tuples(i), dicts(i), lists(i), strings(i)
        if keep_every and i % keep_every == 0:
            kept.append(made)


main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
