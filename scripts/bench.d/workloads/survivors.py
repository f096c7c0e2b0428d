"""As many live blocks as the argument says, each of them replaced once, at random
places in memory."""

import sys

# Prime, so that neighbours in time are not neighbours in memory.
STRIDE = 7919


def block(i):
    return bytes(16 + i % 48)


def main(count):
    blocks = [block(i) for i in range(count)]
    at = 0
    for _ in range(count):
        at = (at + STRIDE) % count
        blocks[at] = block(at)


main(int(sys.argv[1]))
