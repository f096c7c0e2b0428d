# The larger one first, and the other one too.
# kind: python-held
# holder: module __main__ → LOG
# also: native-leak
# tick: 64000
import packer
from pace import ticks

LOG = []
ROW = bytes(range(250)) * 8


def log(number):
    LOG.append("line %08d " % number * 140)  # LEAK


for tick in ticks():
    for number in range(32):
        log(number)
    for _ in range(10):
        packer.pack_row(ROW)
