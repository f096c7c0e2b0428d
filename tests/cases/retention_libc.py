# Each batch is a little larger than the one before; a row at its end stays, and
# what was below it is not given back.
# kind: allocator-retention
# evidence: libc
from pace import elapsed, ticks

KEPT = []


def batch(size):
    rows = [bytearray(b"r" * 4000) for _ in range(size)]  # LEAK
    last = bytearray(b"last" * 5000)
    KEPT.append(last)
    return len(rows)


for tick in ticks(10):
    batch(500 + int(elapsed() * 8000))
