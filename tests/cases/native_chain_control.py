# kind: none
import packer
from pace import ticks


def link_rows(count):
    return packer.chain_rows_freed(count)


for tick in ticks():
    link_rows(8)
    link_rows(8)
    link_rows(8)
