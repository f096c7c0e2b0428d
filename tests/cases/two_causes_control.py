# kind: none
# The larger one first, and the other one too.
import packer
from pace import ticks

LOG = []
ROW = bytes(range(250)) * 8


def log(number):
    LOG.append("line %08d " % number * 140)
    del LOG[:-100]


for tick in ticks():
    for number in range(32):
        log(number)
    for _ in range(10):
        packer.pack_row_freed(ROW)
