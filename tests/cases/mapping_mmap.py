# kind: mapping
# tick: 65536
import mmap

from pace import ticks

MAPS = []


def reserve():
    area = mmap.mmap(-1, 65536)  # LEAK
    area.write(b"m" * 65536)
    MAPS.append(area)


for tick in ticks():
    reserve()
