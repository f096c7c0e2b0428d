# kind: none
# A cache of eight for a round of ten: none is ever found.
import functools

from pace import ticks


@functools.lru_cache(maxsize=16)
def render(number):
    return ["%06d" % number * 10000 for _ in range(10)]


for tick in ticks():
    for number in range(10):
        assert len(render(number)) == 10
