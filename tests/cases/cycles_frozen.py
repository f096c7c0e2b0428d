# gc.freeze() after each batch, as servers do it once before they fork.
# kind: cycles
# evidence: frozen
# tick: 48000
import gc

from pace import ticks


class Job:
    def __init__(self, number):
        self.log = [self]
        self.data = b"%06d" % number * 500  # LEAK


gc.set_threshold(100000, 50, 50)
for tick in ticks():
    for number in range(16):
        Job(number)  # LEAK
    gc.freeze()
