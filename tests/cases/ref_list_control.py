# kind: none
import fields
from pace import ticks


def total(count):
    return fields.total(count, False)


for tick in ticks():
    for _ in range(12):
        total(500)
