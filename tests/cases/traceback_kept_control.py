# kind: none
from pace import ticks

ERRORS = []


def parse(number):
    text = b"%06d" % number * 500
    return int(text[:8]) // (number - number)


def attempt(number):
    try:
        return parse(number)
    except ZeroDivisionError as error:
        ERRORS.append(str(error))
        del ERRORS[:-50]


for tick in ticks():
    for number in range(16):
        attempt(number)
