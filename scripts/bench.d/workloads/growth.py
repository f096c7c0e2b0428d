"""A list of dictionaries of strings grows, and is dropped as a whole; four times."""

import sys


def record(i):
    return {"name": "user-%d" % i, "mail": "user-%d@example.org" % i, "city": str(i * 7919)}


def grow(count):
    rows = []
    for i in range(count):
        rows.append(record(i))
    return rows


for _ in range(4):
    grow(int(sys.argv[1]))
