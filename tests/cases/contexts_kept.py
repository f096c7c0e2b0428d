# kind: python-held
# holder: module __main__ → CONTEXTS
# tick: 48000
import contextvars

from pace import ticks

CONTEXTS = []
body = contextvars.ContextVar("body")


def request(number):
    body.set(b"%06d" % number * 500)  # LEAK
    CONTEXTS.append(contextvars.copy_context())


for tick in ticks():
    for number in range(16):
        contextvars.copy_context().run(request, number)
