# kind: none
# Readers that were begun, and never finished.
from pace import ticks

READERS = []


def read(number):
    block = b"%04d" % number * 1000
    for at in range(0, len(block), 4):
        yield block[at : at + 4]


def peek(number):
    reader = read(number)
    READERS.append(reader)
    if len(READERS) > 60:
        READERS.pop(0).close()
    return next(reader)


for tick in ticks():
    for number in range(12):
        peek(number)
