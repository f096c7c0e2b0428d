# Rings whose members have a __del__.
# kind: cycles
# type: Resource
# evidence: disabled
# tick: 48000
import gc

from pace import ticks

closed = 0


class Resource:
    def __init__(self, number):
        self.handle = b"%06d" % number * 500  # LEAK
        self.owner = {"resource": self}

    def __del__(self):
        global closed
        closed += 1


gc.disable()
for tick in ticks():
    for number in range(16):
        Resource(number)  # LEAK
