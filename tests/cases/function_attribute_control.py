# kind: none
from pace import ticks


def handle(number):
    handle.calls.append((number, "request %d " % number * 70))
    del handle.calls[:-200]


handle.calls = []
for tick in ticks():
    for number in range(50):
        handle(number)
