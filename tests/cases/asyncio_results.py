# Tasks that are done, and kept with what they returned.
# kind: python-held
# holder: module __main__ → DONE
# tick: 50000
import asyncio

from pace import ticks

DONE = set()


async def fetch(number):
    await asyncio.sleep(0)
    return b"%06d" % number * 500  # LEAK


async def main():
    for tick in ticks():
        for number in range(16):
            task = asyncio.ensure_future(fetch(number))
            DONE.add(task)
        await asyncio.sleep(0.001)


asyncio.new_event_loop().run_until_complete(main())
