# https://github.com/aio-libs/multidict/issues/1131
# kind: reference-leak
# python: 3.12
from multidict import CIMultiDict
from pace import ticks


def respond(number):
    headers = CIMultiDict({"X-Any-%d" % at: "%d" % number for at in range(10)})  # LEAK
    answer = CIMultiDict()
    for key, value in headers.items():
        answer.add(key, value)  # LEAK
    return len(answer)


for tick in ticks():
    for number in range(50):
        assert respond(number) == 10
