# kind: none
# The cache is weak and nobody else keeps the values: each is made anew. Memory
# moves, and none is lost.
import weakref

from pace import ticks


class Report:
    def __init__(self, number):
        self.rows = [b"%06d" % number * 1500 for _ in range(20)]


CACHE = weakref.WeakValueDictionary()
HELD = {}


def report(number):
    found = CACHE.get(number)
    if found is None:
        found = CACHE[number] = Report(number)
        HELD[number] = found
    return found


for tick in ticks():
    for number in range(30):
        assert len(report(number).rows) == 20
