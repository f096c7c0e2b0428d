# kind: none
# Rings whose members have a __del__.
import gc

from pace import ticks

closed = 0


class Resource:
    def __init__(self, number):
        self.handle = b"%06d" % number * 500
        self.owner = {"resource": self}

    def __del__(self):
        global closed
        closed += 1


gc.set_threshold(100, 5, 5)
for tick in ticks():
    for number in range(16):
        Resource(number)
