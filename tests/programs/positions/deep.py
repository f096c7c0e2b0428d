"""One block in a shallow stack, one in a deep one, and one in a callback from a deep one."""
import sys

sys.setrecursionlimit(2000)
kept = []


def shallow():
    kept.append(bytes(666000))


def key(one):
    kept.append(bytes(777000))
    return one


def down(depth):
    if depth == 0:
        sorted([1], key=key)
        kept.append(bytes(888000))
    else:
        down(depth - 1)


def begin(one):
    shallow()
    down(400)
    return one


sorted([1], key=begin)
