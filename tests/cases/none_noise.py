# Up and down without a direction.
# kind: none
import random

from pace import ticks

chance = random.Random(7)
HELD = {}
for tick in ticks():
    for _ in range(10):
        HELD[chance.randrange(400)] = b"x" * chance.randrange(1000, 20000)
        HELD.pop(chance.randrange(400), None)
