# https://github.com/python/cpython/issues/113993
# kind: python-held
# holder: interned
# python: 3.12.1
# fixed-python: 3.13
import sys

from pace import ticks


def name(number):
    return sys.intern("name_%d_%s" % (number, "x" * 500))  # LEAK


for tick in ticks():
    for number in range(100):
        name(tick * 100 + number)
