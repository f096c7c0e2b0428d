# One exception, raised over and over: its traceback gets longer each time.
# kind: python-held
# holder: traceback
# tick: 48000
from pace import ticks

CLOSED = ConnectionError("closed")


def send(number):
    body = b"%06d" % number * 500  # LEAK
    if body:
        raise CLOSED


for tick in ticks():
    for number in range(16):
        try:
            send(number)
        except ConnectionError:
            pass
