# kind: none
from collections import deque

from pace import ticks

STATIC = [{"id": number, "values": [number]} for number in range(60_000)]
WINDOW = deque(maxlen=1_500)


class Job:
    def __init__(self, number):
        self.me = self
        self.data = "job %d " % number * 40


number = 0
for tick in ticks():
    for _ in range(8):
        WINDOW.append(Job(number))
        number += 1
