# kind: python-held
# holder: module __main__ → SEEN
# tick: 44000
from pace import ticks

SEEN = set()


def seen(number):
    key = b"%09d" % number * 55  # LEAK
    known = key in SEEN
    SEEN.add(key)
    return known


for tick in ticks():
    for number in range(100):
        seen(tick * 80 + number)
