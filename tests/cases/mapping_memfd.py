# kind: mapping
# evidence: memfd
# tick: 65536
import mmap
import os

from pace import ticks

MAPS = []


def share(number):
    descriptor = os.memfd_create("frames")
    os.ftruncate(descriptor, 65536)
    area = mmap.mmap(descriptor, 65536)  # LEAK
    os.close(descriptor)
    area.write(b"f" * 65536)
    MAPS.append(area)


# Each mapping has a descriptor of its own, of which there may be few.
for tick in ticks(60):
    share(tick)
