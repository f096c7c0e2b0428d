# kind: python-held
# holder: module __main__ → QUEUE
# tick: 50000
import asyncio

from pace import ticks

QUEUE = None


async def produce(queue, tick):
    for number in range(16):
        await queue.put({"id": number, "body": b"%06d" % number * 500})  # LEAK


async def consume(queue, most):
    for _ in range(min(most, queue.qsize())):
        await queue.get()


async def main():
    global QUEUE
    QUEUE = asyncio.Queue()
    for tick in ticks():
        await produce(QUEUE, tick)
        await consume(QUEUE, 1)


asyncio.new_event_loop().run_until_complete(main())
