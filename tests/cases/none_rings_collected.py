# kind: none
import gc

from pace import ticks

gc.set_threshold(2000, 10, 10)


class Node:
    def __init__(self):
        self.me = self
        self.data = bytearray(2000)


for tick in ticks():
    for _ in range(20):
        Node()
