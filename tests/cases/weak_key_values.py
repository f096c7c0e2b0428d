# Each value holds its own key: the entry keeps itself.
# kind: python-held
# holder: WeakKeyDictionary whose values hold their keys
# tick: 48000
import weakref

from pace import ticks


class Node:
    def __init__(self, number):
        self.name = "node %d" % number


class Meta:
    def __init__(self, node):
        self.node = node
        self.data = b"meta" * (740 + len(node.name))  # LEAK


META = weakref.WeakKeyDictionary()
for tick in ticks():
    for number in range(16):
        node = Node(number)
        META[node] = Meta(node)  # LEAK
