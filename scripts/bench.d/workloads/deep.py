"""Recursion in which 2^15 distinct stacks allocate, again and again."""

import sys

DEPTH = 15


def descend(depth):
    if depth == 0:
        return bytes(40)
    left = descend(depth - 1)
    right = descend(depth - 1)
    return left or right


for _ in range(int(sys.argv[1])):
    descend(DEPTH)
