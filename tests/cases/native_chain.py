# The head is small and the nodes are not: who forgot the head forgot all of it.
# kind: native-leak
# native: make_chain
# native-leads: make_chain
# tick: 49152
import packer
from pace import ticks


def link_rows(count):
    return packer.chain_rows(count)  # LEAK


for tick in ticks():
    link_rows(8)
    link_rows(8)
    link_rows(8)
