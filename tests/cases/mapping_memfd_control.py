# kind: none
import mmap
import os

from pace import ticks

MAPS = []


def share(number):
    descriptor = os.memfd_create("frames")
    os.ftruncate(descriptor, 65536)
    area = mmap.mmap(descriptor, 65536)
    os.close(descriptor)
    area.write(b"f" * 65536)
    MAPS.append(area)
    if len(MAPS) > 20:
        MAPS.pop(0).close()


# Each mapping has a descriptor of its own, of which there may be few.
for tick in ticks(60):
    share(tick)
