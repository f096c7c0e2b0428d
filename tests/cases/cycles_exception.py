# An exception in a variable of the frame that is in its traceback.
# kind: cycles
# evidence: disabled
# tick: 48000
import gc

from pace import ticks


def load(number):
    body = b"%06d" % number * 500  # LEAK
    problem = None
    try:
        int(body[:3] + b"x")
    except ValueError as error:
        problem = error
    return problem is None


gc.disable()
for tick in ticks():
    for number in range(16):
        load(number)
