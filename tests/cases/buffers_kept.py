# kind: python-held
# holder: module __main__ → CHUNKS
# tick: 48000
from array import array

from pace import ticks

CHUNKS = []


def receive(number):
    if number % 3 == 0:
        return bytearray(b"%06d" % number * 500)  # LEAK
    if number % 3 == 1:
        return array("d", [number * 0.5]) * 375  # LEAK
    return memoryview(bytearray(b"%06d" % number * 1000))[:10]  # LEAK


for tick in ticks():
    for number in range(12):
        CHUNKS.append(receive(number))
