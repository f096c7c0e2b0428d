# kind: reference-leak
# type: list
# native: total
# tick: 48000
import fields
from pace import ticks


def total(count):
    return fields.total(count, True)  # LEAK


for tick in ticks():
    for _ in range(12):
        total(500)
