# kind: none
import contextvars

from pace import ticks

CONTEXTS = []
body = contextvars.ContextVar("body")


def request(number):
    body.set(b"%06d" % number * 500)
    CONTEXTS.append(contextvars.copy_context())
    del CONTEXTS[:-50]


for tick in ticks():
    for number in range(16):
        contextvars.copy_context().run(request, number)
