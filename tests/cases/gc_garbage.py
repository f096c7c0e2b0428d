# What gc.DEBUG_SAVEALL was left on for.
# kind: python-held
# holder: gc.garbage
# tick: 48000
import gc

from pace import ticks

gc.set_debug(gc.DEBUG_SAVEALL)
gc.set_threshold(500, 5, 5)


class Node:
    def __init__(self):
        self.me = self
        self.data = b"n" * self.size()  # LEAK

    def size(self):
        return 3000


for tick in ticks():
    for _ in range(16):
        Node()  # LEAK
    if tick % 5 == 0:
        gc.collect()
