"""A thousand functions, each gone before the next comes, that each keep one block of their own size."""
import sys

if "trace" in sys.argv:
    import tracemalloc
    tracemalloc.start()
    tracemalloc.stop()
kept = []
for number in range(1000):
    scope = {}
    exec("def made_%d(): return bytes(5000 + %d)" % (number, number), scope)
    kept.append(scope.popitem()[1]())
print(len(kept), len(set(map(len, kept))))
