"""Loads libraries between many new places, with no room in the dump for most of them.

    libraries.py LIBRARY
"""
import ctypes
import shutil
import sys

def keep(): return bytes(1000)

kept = []
for number in range(60):
    # A copy is a library of its own for the loader.
    shutil.copy(sys.argv[1], "copy%d.so" % number)
    kept.append(ctypes.CDLL("./copy%d.so" % number))
    for place in range(number * 7 % 200):
        scope = {}
        exec("def site_%d_%d(): return [bytes(%d)]" % (number, place, place), scope)
        kept.append(scope["site_%d_%d" % (number, place)]())
known = [keep() for _ in range(3000)]
print(len(kept), len(known))
