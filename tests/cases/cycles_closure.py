# A function that calls itself is in its own closure: a ring for each call.
# kind: cycles
# evidence: disabled
# tick: 48000
import gc

from pace import ticks


def walk(number):
    buffer = bytearray(b"%06d" % number * 500)  # LEAK

    def visit(depth):  # LEAK
        return len(buffer) if depth == 0 else visit(depth - 1)

    return visit(3)


gc.disable()
for tick in ticks():
    for number in range(16):
        walk(number)
