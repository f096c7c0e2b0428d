# kind: python-held
# holder: functools.
# holder: render
# pythons: >=3.9
# tick: 48000
import functools

from pace import ticks


@functools.cache
def render(number):
    return "<p>%06d</p>" % number * 240  # LEAK


for tick in ticks():
    for number in range(15):
        render(tick * 15 + number)
