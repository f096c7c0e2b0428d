# kind: reference-leak
# type: bytearray
# tick: 48000
import fields
from pace import ticks


def rows(count):
    for number in range(count):
        yield bytearray(b"%04d" % number * 750)  # LEAK


for tick in ticks():
    fields.lengths(rows(16), True)
