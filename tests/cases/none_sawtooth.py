# kind: none
from pace import ticks

BATCH = []
for tick in ticks():
    for number in range(20):
        BATCH.append(b"%06d" % number * 500)
    if len(BATCH) >= 2000:
        BATCH.clear()
