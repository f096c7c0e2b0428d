# kind: none
import boxes
from pace import ticks

HANDLES = {}


def handle(number):
    HANDLES[number] = boxes.capsule(4096)
    HANDLES.pop(number - 100, None)


for tick in ticks():
    for number in range(12):
        handle(tick * 12 + number)
