"""Coroutines."""
import asyncio
import contextlib

from kinds import keep, shape, size


@shape
def coroutine():
    async def waits():
        keep("coroutine", bytes(size()))

    async def outer():
        await waits()

    with contextlib.suppress(StopIteration):
        outer().send(None)


@shape
def tasks():
    async def worker():
        keep("task", bytes(size()))
        await asyncio.sleep(0)
        keep("task, resumed", bytes(size()))

    async def other_worker():
        await asyncio.sleep(0)
        keep("another task", bytes(size()))

    async def numbers():
        keep("async generator", bytes(size()))
        yield 1
        await asyncio.sleep(0)
        keep("async generator, resumed", bytes(size()))

    class Manager:
        async def __aenter__(self):
            keep("__aenter__", bytes(size()))

        async def __aexit__(self, *what):
            keep("__aexit__", bytes(size()))

    def called_soon():
        keep("callback of the loop", bytes(size()))

    async def main():
        asyncio.get_running_loop().call_soon(called_soon)
        await asyncio.gather(worker(), other_worker())
        async for _ in numbers():
            pass
        [keep("async comprehension", bytes(size())) async for _ in numbers()]
        async with Manager():
            pass
        await asyncio.get_running_loop().run_in_executor(None, in_executor)

    def in_executor():
        keep("thread of the loop's executor", bytes(size()))

    asyncio.run(main())
