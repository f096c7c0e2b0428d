"""Allocates at many places on a disk that is full until it lets go of a file."""
import os
import sys
import time

def place(number):
    scope = {}
    exec("def site_%d(): return [bytes(%d), bytes(900)]" % (number, number % 3000), scope)
    return scope["site_%d" % number]()

kept = [place(number) for number in range(5000)]
os.remove(sys.argv[1])
time.sleep(0.3)
kept += [place(number) for number in range(5000, 6000)]
print(len(kept))
