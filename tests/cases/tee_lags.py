# One of two iterators is read, the other holds all that it has not seen.
# kind: python-held
# holder: module __main__ → lagging
# tick: 48000
import itertools

from pace import ticks


def rows():
    for number in itertools.count():
        yield b"%06d" % (number % 1000000) * 500  # LEAK


reading, lagging = itertools.tee(rows())
for tick in ticks():
    for _ in range(16):
        next(reading)
