# kind: none
# What gc.DEBUG_SAVEALL was left on for.
import gc

from pace import ticks

gc.set_threshold(500, 5, 5)


class Node:
    def __init__(self):
        self.me = self
        self.data = b"n" * self.size()

    def size(self):
        return 3000


for tick in ticks():
    for _ in range(16):
        Node()
    if tick % 5 == 0:
        gc.collect()
