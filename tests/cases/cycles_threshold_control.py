# kind: none
import gc

from pace import ticks

gc.set_threshold(1_000, 10, 10)


def ring(number):
    first = {"data": b"%06d" % number * 500}
    second = {"other": first}
    first["other"] = second


for tick in ticks():
    for number in range(16):
        ring(number)
