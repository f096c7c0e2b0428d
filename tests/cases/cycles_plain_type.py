# A C type that takes no part in garbage collection closes the ring.
# kind: cycles
# holder: C type without gc support
# evidence: Plain
# tick: 48000
import gc

import boxes
from pace import ticks

gc.set_threshold(500, 5, 5)


def ring(number):
    items = [b"%06d" % number * 500]  # LEAK
    items.append(boxes.Plain(items))  # LEAK
    return len(items)


for tick in ticks():
    for number in range(16):
        ring(number)
