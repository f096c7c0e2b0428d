# The hash of an address is that address: a map by id() holds nothing of what it tells about.
# kind: reference-leak
# type: dict
# native: record
import fields
from pace import ticks

SIZES = {}
SEEN = set()


def record():
    return fields.record(True)  # LEAK


for tick in ticks():
    for _ in range(40):
        row = record()
        SIZES[id(row)] = len(row)
        SEEN.add(id(row))
        SEEN.add(1 << 40)
