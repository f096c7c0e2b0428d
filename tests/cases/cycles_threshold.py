# kind: cycles
# evidence: threshold
# tick: 48000
import gc

from pace import ticks

gc.set_threshold(10_000_000, 10, 10)


def ring(number):
    first = {"data": b"%06d" % number * 500}  # LEAK
    second = {"other": first}  # LEAK
    first["other"] = second


for tick in ticks():
    for number in range(16):
        ring(number)
