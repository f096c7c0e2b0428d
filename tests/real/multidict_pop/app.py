# https://github.com/aio-libs/multidict/issues/1232
# kind: native-leak
# native: htkeys_new
# python: 3.13
from multidict import CIMultiDict
from pace import ticks


def strip(number):
    headers = CIMultiDict(("X-Any-%d" % at, "value %d " % number * 4) for at in range(20))  # LEAK
    while headers:
        headers.pop(next(iter(headers)))


for tick in ticks():
    for number in range(40):
        strip(number)
