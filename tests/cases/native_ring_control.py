# kind: none
import packer
from pace import ticks


def pair():
    return packer.pair_row_freed()


for tick in ticks():
    for _ in range(12):
        pair()
