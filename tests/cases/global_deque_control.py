# kind: none
from collections import deque

from pace import ticks

HISTORY = deque(maxlen=400)


def record(number):
    HISTORY.append((number, float(number), "event %d" % number * 40))


for tick in ticks():
    for number in range(80):
        record(tick * 80 + number)
