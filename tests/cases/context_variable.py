# kind: python-held
# holder: ContextVar
# holder: trail
# tick: 48000
import contextvars

from pace import ticks

trail = contextvars.ContextVar("trail", default=())


def visit(number):
    trail.set((b"%06d" % number * 500, trail.get()))  # LEAK


for tick in ticks():
    for number in range(16):
        visit(number)
