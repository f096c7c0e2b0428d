# kind: python-held
# holder: module __main__ → CALLBACKS
# holder: closure cell 'payload'
# tick: 50000
from pace import ticks

CALLBACKS = []


def later(number):
    payload = b"%09d" % number * 300  # LEAK
    CALLBACKS.append(lambda: len(payload))


for tick in ticks():
    for number in range(18):
        later(number)
