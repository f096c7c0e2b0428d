# kind: none
# Generated code whose sources were registered for tracebacks.
import linecache

from pace import ticks


def define(number):
    name = "<generated %d>" % number
    source = "".join("def f%d(x):\n    return x + %d\n" % (at, number) for at in range(40))
    lines = source.splitlines(True)
    linecache.cache[name] = (len(source), None, lines, name)
    names = {}
    exec(compile(source.split("def f1")[0], name, "exec"), names)
    linecache.cache.pop(name)
    return names["f0"](1)


for tick in ticks():
    for number in range(6):
        define(tick * 6 + number)
