# kind: none
# The question: gc.disable() was called for a speed-up, and forgotten.
import gc

from pace import ticks


class Node:
    def __init__(self, parent):
        self.parent = parent
        self.children = []
        if parent:
            parent.children.append(self)


def build(count):
    root = Node(None)
    for _ in range(count):
        Node(root).data = bytearray(b"leaf" * 240)
    return root


def main():
    gc.enable()
    gc.set_threshold(200, 5, 5)
    for tick in ticks():
        for _ in range(4):
            assert len(build(10).children) == 10


main()
