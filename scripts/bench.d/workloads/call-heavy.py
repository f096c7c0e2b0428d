"""Python calls that hardly allocate: recursion, and methods across classes.

Numbers stay below 257, where CPython keeps its integers ready made.
"""

import sys
from itertools import repeat


def fib(n):
    return n if n < 2 else (fib(n - 1) + fib(n - 2)) & 0xFF


class Counter:
    def __init__(self):
        self.value = 0

    def step(self):
        self.add(3)
        return self.is_even()

    def add(self, n):
        self.value = (self.value + n) & 0xFF

    def is_even(self):
        return self.value & 1 == 0


class Skipping(Counter):
    def add(self, n):
        super().add(n + 1)


def methods(times):
    counters = [Counter(), Skipping()]
    for _ in repeat(None, times):
        for counter in counters:
            counter.step()


for _ in repeat(None, int(sys.argv[1])):
    fib(18)
    methods(2000)
