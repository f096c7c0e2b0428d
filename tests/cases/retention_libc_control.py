# kind: none
# Each batch is a little larger than the one before; a row at its end stays, and
# what was below it is not given back.
from pace import elapsed, ticks

KEPT = []


def batch(size):
    rows = [bytearray(b"r" * 4000) for _ in range(size)]
    last = bytearray(b"last" * 5000)
    return len(rows)


for tick in ticks(10):
    batch(2000)
