# kind: none
# gc.freeze() after each batch, as servers do it once before they fork.
import gc

from pace import ticks


class Job:
    def __init__(self, number):
        self.log = [self]
        self.data = b"%06d" % number * 500


gc.freeze()
gc.set_threshold(100, 5, 5)
for tick in ticks():
    for number in range(16):
        Job(number)
