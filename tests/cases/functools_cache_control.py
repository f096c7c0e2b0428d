# kind: none
# pythons: >=3.9
import functools

from pace import ticks


@functools.lru_cache(maxsize=64)
def render(number):
    return "<p>%06d</p>" % number * 240


for tick in ticks():
    for number in range(15):
        render(tick * 15 + number)
