# Tasks that wait for what never comes.
# kind: python-held
# holder: asyncio task
# env: PYSHIM_SNAPSHOT=every=2s
# ends: killed
# tick: 50000
import asyncio
import os
import signal

from pace import ticks


async def watch(number, never):
    message = b"%06d" % number * 600  # LEAK
    await never.wait()
    return message


async def main():
    never = asyncio.Event()
    tasks = set()
    for tick in ticks():
        for number in range(12):
            task = asyncio.ensure_future(watch(number, never))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.new_event_loop().run_until_complete(main())
