# kind: mapping
# evidence: shared
# tick: 262144
from multiprocessing import shared_memory

from pace import ticks

FRAMES = []


def frame():
    memory = shared_memory.SharedMemory(create=True, size=262144)  # LEAK
    memory.buf[:] = b"s" * 262144
    memory.unlink()
    FRAMES.append(memory)


for tick in ticks(20):
    frame()
