# kind: python-held
# holder: module __main__ → PENDING
# holder: coroutine
# tick: 48000
from pace import ticks

PENDING = []


async def send(payload):
    return len(payload)


def enqueue(number):
    PENDING.append(send(b"%06d" % number * 500))  # LEAK


for tick in ticks():
    for number in range(16):
        enqueue(number)
