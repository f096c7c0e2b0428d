# kind: none
import fields
from pace import ticks

SIZES = {}
SEEN = set()


def record():
    return fields.record(False)


for tick in ticks():
    for _ in range(40):
        row = record()
        SIZES[id(row)] = len(row)
        SEEN.add(id(row))
        SEEN.add(1 << 40)
