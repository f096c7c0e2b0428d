# kind: none
from array import array

from pace import ticks

CHUNKS = []


def receive(number):
    if number % 3 == 0:
        return bytearray(b"%06d" % number * 500)
    if number % 3 == 1:
        return array("d", [number * 0.5]) * 375
    return memoryview(bytearray(b"%06d" % number * 1000))[:10]


for tick in ticks():
    for number in range(12):
        CHUNKS.append(receive(number))
    del CHUNKS[:-60]
