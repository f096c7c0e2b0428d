# kind: none
from pace import ticks

CALLBACKS = []


def later(number):
    payload = b"%09d" % number * 300
    CALLBACKS.append(lambda: len(payload))
    if len(CALLBACKS) > 50:
        CALLBACKS.pop(0)()


for tick in ticks():
    for number in range(18):
        later(number)
