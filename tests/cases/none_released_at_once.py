# A peak at the start that was given back.
# kind: none
from pace import ticks

peak = [b"%06d" % number * 2000 for number in range(5000)]
del peak
for tick in ticks():
    assert len([b"%06d" % number for number in range(1000)]) == 1000
