# Each block is pointed to, by another one that nobody can reach either.
# kind: native-leak
# native: make_pair
# tick: 49152
import packer
from pace import ticks


def pair():
    return packer.pair_row()  # LEAK


for tick in ticks():
    for _ in range(12):
        pair()
