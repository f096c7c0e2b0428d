# Thirty thousand blocks, each from a stack of its own.
import os
import sys

kept = [None] * 30_000


def keep(bits, depth, at):
    if depth == 0:
        kept[at] = bytes(1000)
    elif bits & 1:
        keep(bits >> 1, depth - 1, at)
    else:
        keep(bits >> 1, depth - 1, at)


for bits in range(30_000):
    keep(bits, 15, bits)
if sys.argv[1:] == ["linked"]:
    os.link("it.dump", "other.dump")
print("made")
