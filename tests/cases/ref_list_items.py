# PyList_Append takes a reference of its own; the maker's is never given back.
# kind: reference-leak
# type: bytes
# native: split
# tick: 48000
import fields
from pace import ticks

ROW = bytes(range(250)) * 16


def split(row):
    return fields.split(row, True)  # LEAK


for tick in ticks():
    for _ in range(12):
        first, *rest = split(ROW)
