# kind: none
# One exception, raised over and over: its traceback gets longer each time.
from pace import ticks

CLOSED = ConnectionError("closed")


def send(number):
    body = b"%06d" % number * 500
    if body:
        raise ConnectionError("closed")


for tick in ticks():
    for number in range(16):
        try:
            send(number)
        except ConnectionError:
            pass
