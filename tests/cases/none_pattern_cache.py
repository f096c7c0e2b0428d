# The cache of re is bounded: it fills, and starts over.
# kind: none
import re

from pace import ticks

for tick in ticks():
    for number in range(5):
        re.compile("a%d[0-9]+(x|y)" % (tick * 5 + number))
