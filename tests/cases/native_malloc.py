# kind: native-leak
# native: pack_row
# confidence: certain
# tick: 49152
import packer
from pace import ticks

ROW = bytes(range(256)) * 16


def encode(row):
    return packer.pack_row(row)  # LEAK


total = 0
for tick in ticks():
    for _ in range(12):
        total += encode(ROW)
