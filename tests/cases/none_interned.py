# In 3.12 interned strings were immortal: there it is a leak (tests/real).
# kind: none
# pythons: >=3.13
import sys

from pace import ticks

latest = {}
for tick in ticks():
    for number in range(50):
        latest[number] = sys.intern("name_%d_%d_%s" % (tick, number, "x" * 200))
