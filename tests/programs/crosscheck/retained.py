"""A random graph of objects, each of a class of its own. Prints, as JSON, what would go with each of
them: by taking it out and looking again what can be reached."""

import gc
import json
import random
import sys

COUNT = 60
# Or else a class would go with its object.
CLASSES = []


def grow(seed):
    chance = random.Random(seed)
    nodes = []
    for number in range(COUNT):
        cls = type("Node%d" % number, (), {"__slots__": ("links", "payload")})
        CLASSES.append(cls)
        nodes.append(cls())
    for number, node in enumerate(nodes):
        # Mostly down, sometimes back up: there are rings, and nodes that two others hold.
        last = min(COUNT, number + 12)
        links = [chance.randrange(number, last) for _ in range(chance.randrange(1, 4))]
        if chance.random() < 0.2:
            links.append(chance.randrange(0, number + 1))
        node.links = [nodes[link] for link in links]
        node.payload = bytes(chance.randrange(200, 20_000))
    return nodes[:3]


def reached(roots, without=None):
    """What can be reached in the graph, by address."""
    known = {}
    now = [one for one in roots if one is not without]
    while now:
        one = now.pop()
        if id(one) in known:
            continue
        known[id(one)] = one
        now.extend(it for it in gc.get_referents(one) if not isinstance(it, type) and it is not without)
    return known


def say():
    everything = reached(ROOTS)
    told = {}
    for one in everything.values():
        if type(one).__name__.startswith("Node"):
            left = reached(ROOTS, without=one)
            gone = [it for at, it in everything.items() if at not in left]
            told[type(one).__name__] = sum(map(sys.getsizeof, gone))
    return json.dumps(told)


ROOTS = grow(int(sys.argv[1]))
gc.collect()
print(say(), flush=True)
