# kind: none
# An exception in a variable of the frame that is in its traceback.
import gc

from pace import ticks


def load(number):
    body = b"%06d" % number * 500
    problem = None
    try:
        int(body[:3] + b"x")
    except ValueError as error:
        problem = error
    return problem is None


gc.set_threshold(100, 5, 5)
for tick in ticks():
    for number in range(16):
        load(number)
