# kind: none
# One of two iterators is read, the other holds all that it has not seen.
import itertools

from pace import ticks


def rows():
    for number in itertools.count():
        yield b"%06d" % (number % 1000000) * 500


reading, lagging = itertools.tee(rows())
for tick in ticks():
    for _ in range(16):
        next(reading)
        next(lagging)
