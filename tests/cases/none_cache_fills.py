# kind: none
from pace import ticks

CACHE = {}


def get(number):
    if number not in CACHE:
        CACHE[number] = b"%06d" % number * 1000
    return CACHE[number]


# Twelve megabytes within the first quarter, and then no more.
for tick in ticks():
    for number in range(16):
        get((tick * 16 + number) % 2000)
