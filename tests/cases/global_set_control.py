# kind: none
from pace import ticks

SEEN = set()


def seen(number):
    key = b"%09d" % number * 55
    known = key in SEEN
    SEEN.add(key)
    if len(SEEN) > 1000:
        SEEN.pop()
    return known


for tick in ticks():
    for number in range(100):
        seen(tick * 80 + number)
