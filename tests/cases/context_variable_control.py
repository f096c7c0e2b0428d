# kind: none
import contextvars

from pace import ticks

trail = contextvars.ContextVar("trail", default=())


def visit(number):
    trail.set((b"%06d" % number * 500, ()))


for tick in ticks():
    for number in range(16):
        visit(number)
