"""C functions that call each other, to a hundred depths up to the one given."""
import json
import sys

KEPT = []
deepest = int(sys.argv[1])
for depth in range(deepest - 100, deepest):
    KEPT.append(json.loads("[" * depth + "]" * depth))
