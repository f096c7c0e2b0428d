# kind: none
import mmap

from pace import ticks

MAPS = []


def reserve():
    area = mmap.mmap(-1, 65536)
    area.write(b"m" * 65536)
    MAPS.append(area)
    if len(MAPS) > 20:
        MAPS.pop(0).close()


for tick in ticks():
    reserve()
