# kind: none
from multiprocessing import shared_memory

from pace import ticks

FRAMES = []


def frame():
    memory = shared_memory.SharedMemory(create=True, size=262144)
    memory.buf[:] = b"s" * 262144
    memory.unlink()
    FRAMES.append(memory)
    if len(FRAMES) > 10:
        FRAMES.pop(0).close()


for tick in ticks(20):
    frame()
