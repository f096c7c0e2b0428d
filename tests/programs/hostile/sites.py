"""Allocates at many places: the dump must grow well beyond its first size."""
import sys
def keep(): return bytes(1000)

count = int(sys.argv[1]) if len(sys.argv) > 1 else 6000
kept = []
for number in range(count):
    scope = {}
    exec("def site_%d(): return [bytes(%d), bytes(900)]" % (number, number % 3000), scope)
    kept.append(scope["site_%d" % number]())
known = [keep() for _ in range(3000)]
print(len(kept), len(known), sum(len(first) for first, _ in kept))
