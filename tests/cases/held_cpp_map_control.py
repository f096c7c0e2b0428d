# kind: none
import blocks
from pace import ticks


def learn(number):
    return blocks.name(number, 100)


known = 0
for tick in ticks():
    for number in range(16):
        known = learn(tick * 16 + number)
