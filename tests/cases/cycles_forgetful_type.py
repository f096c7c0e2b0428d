# Its tp_traverse does not visit what it holds: to the collector, somebody outside does.
# kind: cycles | reference-leak
# evidence: Forgetful
# tick: 48000
import gc

import boxes
from pace import ticks

gc.set_threshold(500, 5, 5)


def ring(number):
    items = [b"%06d" % number * 500]  # LEAK
    items.append(boxes.Forgetful(items))  # LEAK
    return len(items)


for tick in ticks():
    for number in range(16):
        ring(number)
