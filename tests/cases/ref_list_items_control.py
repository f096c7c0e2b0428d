# kind: none
# PyList_Append takes a reference of its own; the maker's is never given back.
import fields
from pace import ticks

ROW = bytes(range(250)) * 16


def split(row):
    return fields.split(row, False)


for tick in ticks():
    for _ in range(12):
        first, *rest = split(ROW)
