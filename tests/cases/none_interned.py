# kind: none
import sys

from pace import ticks

latest = {}
for tick in ticks():
    for number in range(50):
        latest[number] = sys.intern("name_%d_%s" % (tick, "x" * 200))
