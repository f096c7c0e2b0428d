"""One object of each of many classes, held in as many ways; says at its end what gc knows.

Prints JSON: how many objects of which type the collector tracks, and for each of
the objects its address, its referrers' addresses, what these refer to, and how
far it is from a module. argv[1], if given, is a folder with objgraph.
"""

import collections
import functools
import gc
import json
import sys
import types
import weakref

if len(sys.argv) > 1:
    sys.path.insert(0, sys.argv[1])
    import objgraph
else:
    objgraph = None


def made(name, bases=(), **slots):
    """An object of a class of its own, large enough to be among those that a snapshot names."""
    cls = type(name, bases, dict(slots, __module__="__main__"))
    one = cls()
    one.payload = bytes(20_000)
    return one


class Holder:
    pass


class Slotted:
    __slots__ = ("inside", "__weakref__")


GLOBAL = made("InGlobal")
LIST = [None, [made("InNestedList")]]
DICT = {"key": {"deeper": made("InNestedDict")}}
TUPLE = (1, (2, made("InTuple")))
SET = {made("InSet")}
FROZEN = frozenset([made("InFrozenSet")])
DEQUE = collections.deque([made("InDeque")])
ORDERED = collections.OrderedDict(a=made("InOrderedDict"))
DEFAULTS = collections.defaultdict(list, a=[made("InDefaultDict")])
HOLDER = Holder()
HOLDER.attribute = made("InAttribute")
SLOTTED = Slotted()
SLOTTED.inside = made("InSlot")
Holder.of_class = made("InClassAttribute")
PARTIAL = functools.partial(print, made("InPartial"))
SPACE = types.SimpleNamespace(inside=made("InNamespace"))
PROXY = types.MappingProxyType({"a": made("InMappingProxy")})
CHAIN = made("ChainStart")
CHAIN.next = made("ChainMiddle")
CHAIN.next.next = made("ChainEnd")
METHOD = made("InMethod", method=lambda self: None).method
BY_VALUE = weakref.WeakKeyDictionary({HOLDER: made("InWeakKeyDictionary")})


def in_closure():
    variable = made("InClosure")
    return lambda: variable


CLOSURE = in_closure()


def in_default(argument=made("InDefault"), *, keyword=made("InKeywordDefault")):
    return argument, keyword


def in_generator():
    variable = made("InGenerator")
    yield variable


GENERATOR = in_generator()
next(GENERATOR)


@functools.lru_cache(maxsize=None)
def in_cache(number):
    return made("InCache")


in_cache(1)


def failed():
    variable = made("InTraceback")
    raise ValueError(variable is None)


try:
    failed()
except ValueError as error:
    ERROR = error

RING = made("InRing")
RING.me = RING


def chosen():
    return [
        one
        for one in gc.get_objects()
        if type(one).__module__ == "__main__" and hasattr(one, "payload")
    ]


def distances():
    """Steps from the nearest module to each container that can be reached."""
    known = {id(one): 0 for one in sys.modules.values()}
    now = list(sys.modules.values())
    while now:
        after = []
        for one in now:
            for other in gc.get_referents(one):
                if id(other) not in known:
                    known[id(other)] = known[id(one)] + 1
                    after.append(other)
        now = after
    return known


def say():
    # What counting makes for good, it makes here.
    collections.Counter(type(one) for one in [])
    objects = gc.get_objects()
    counts = collections.Counter(type(one).__qualname__ for one in objects)
    del objects
    far = distances()
    told, middle = [], {}
    for one in chosen():
        referrers = [it for it in gc.get_referrers(one) if it is not sys._getframe()]
        near = {id(it): it for it in referrers}
        # What leads to a referrer that people do not name: a dict, a cell, a tuple.
        for _ in range(2):
            for it in list(near.values()):
                if type(it) in (dict, tuple, CellType):
                    for above in gc.get_referrers(it):
                        if above is not sys._getframe() and above is not near:
                            near.setdefault(id(above), above)
        for it in near.values():
            middle[id(it)] = [id(other) for other in gc.get_referents(it)]
        row = {
            "type": type(one).__name__,
            "address": id(one),
            "referrers": [id(it) for it in referrers],
            "distance": far[id(one)],
        }
        if objgraph:
            chain = objgraph.find_backref_chain(one, objgraph.is_proper_module, max_depth=30)
            row["objgraph"] = len(chain) - 1
        told.append(row)
    del far, one, row, referrers, near, it
    return json.dumps({"types": counts, "objects": told, "referents": middle})


CellType = type(CLOSURE.__closure__[0])
gc.collect()
print(say(), flush=True)
