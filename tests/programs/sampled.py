"""Keeps a known number of bytes at each of several lines, and prints them as JSON.

Each function keep_… has one line that allocates what stays: `bytes` objects, whose
blocks are as large as sys.getsizeof says. Sizes and totals differ much.
"""

import json
import random
import sys

KIB, MIB = 1 << 10, 1 << 20
HEADER = sys.getsizeof(b"")


def sizes(total, smallest, largest):
    """Sizes of blocks whose sum is the first beyond `total`."""
    draw = random.Random(total + smallest)
    found, left = [], total
    while left > 0:
        found.append(draw.randint(smallest, largest))
        left -= found[-1]
    return found


def keep_small(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_tiny(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_many(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_medium(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_mixed(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_large(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_huge(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)


def keep_half(wanted, kept):
    for at, size in enumerate(wanted):
        kept[at] = bytes(size - HEADER)
    # What was sampled and is freed must leave the estimate again.
    for at in range(0, len(kept), 2):
        kept[at] = None


PLAN = [
    (keep_small, 1.2 * MIB, 64, 128),
    (keep_tiny, 3 * MIB, 40, 60),
    (keep_many, 24 * MIB, 100, 500),
    (keep_medium, 5 * MIB, 3 * KIB, 5 * KIB),
    (keep_mixed, 12 * MIB, 64, 200 * KIB),
    (keep_large, 8 * MIB, 200 * KIB, 400 * KIB),
    (keep_huge, 10 * MIB, 800 * KIB, 1200 * KIB),
    (keep_half, 7 * MIB, 64, 8 * KIB),
]

everything, known = [], {}
for keep, total, smallest, largest in PLAN:
    wanted = sizes(int(total), smallest, largest)
    kept = [None] * len(wanted)
    keep(wanted, kept)
    everything.append(kept)
    known[keep.__name__] = sum(sys.getsizeof(block) for block in kept if block is not None)
print(json.dumps(known))
