# kind: none
import packer
from pace import ticks

ROW = bytes(range(256)) * 16


def encode(row):
    return packer.pack_row_freed(row)


total = 0
for tick in ticks():
    for _ in range(12):
        total += encode(ROW)
