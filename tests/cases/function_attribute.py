# kind: python-held
# holder: handle
# holder: calls
# tick: 50000
from pace import ticks


def handle(number):
    handle.calls.append((number, "request %d " % number * 70))  # LEAK


handle.calls = []
for tick in ticks():
    for number in range(50):
        handle(number)
