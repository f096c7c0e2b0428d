# kind: none
# A function that calls itself is in its own closure: a ring for each call.
import gc

from pace import ticks


def walk(number):
    buffer = bytearray(b"%06d" % number * 500)

    def visit(depth):
        return len(buffer) if depth == 0 else visit(depth - 1)

    return visit(3)


gc.set_threshold(100, 5, 5)
for tick in ticks():
    for number in range(16):
        walk(number)
