# kind: python-held
# holder: traceback of an exception
# holder: module __main__ → ERRORS
# tick: 48000
from pace import ticks

ERRORS = []


def parse(number):
    text = b"%06d" % number * 500  # LEAK
    return int(text[:8]) // (number - number)


def attempt(number):
    try:
        return parse(number)
    except ZeroDivisionError as error:
        ERRORS.append(error)


for tick in ticks():
    for number in range(16):
        attempt(number)
