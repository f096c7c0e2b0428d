# kind: python-held
# holder: module __main__ → HISTORY
# tick: 43000
from collections import deque

from pace import ticks

HISTORY = deque()


def record(number):
    HISTORY.append((number, float(number), "event %d" % number * 40))  # LEAK


for tick in ticks():
    for number in range(80):
        record(tick * 80 + number)
