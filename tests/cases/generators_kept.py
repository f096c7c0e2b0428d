# Readers that were begun, and never finished.
# kind: python-held
# holder: module __main__ → READERS
# tick: 48000
from pace import ticks

READERS = []


def read(number):
    block = b"%04d" % number * 1000  # LEAK
    for at in range(0, len(block), 4):
        yield block[at : at + 4]


def peek(number):
    reader = read(number)
    READERS.append(reader)
    return next(reader)


for tick in ticks():
    for number in range(12):
        peek(number)
