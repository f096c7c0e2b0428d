# kind: none
from pace import ticks

PENDING = []


async def send(payload):
    return len(payload)


def enqueue(number):
    PENDING.append(send(b"%06d" % number * 500))
    if len(PENDING) > 50:
        PENDING.pop(0).close()


for tick in ticks():
    for number in range(16):
        enqueue(number)
for coroutine in PENDING:
    coroutine.close()
