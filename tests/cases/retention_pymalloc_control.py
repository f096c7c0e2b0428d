# kind: none
# Batches of small objects of ever other sizes. All are freed but for one in a
# page, which keeps the page for its size.
import itertools

from pace import elapsed, ticks

KEPT = []
BATCH = 3 << 20


def batch(size):
    rows = [b"%08d" % number * (size // 8) for number in range(BATCH // (size + 40))]
    pages = {id(row) >> 12: row for row in rows}
    return len(pages)


sizes = iter(range(8, 472, 16))
for tick in ticks(20):
    for size in itertools.islice(sizes, 1 if elapsed() * 28 > len(KEPT) / 768 else 0):
        batch(size)
