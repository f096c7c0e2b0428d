# kind: python-held
# holder: module __main__ → ROWS
# type: str
# tick: 49000
from pace import ticks

ROWS = []


def load(number):
    ROWS.append("row %08d " % number + "." * 900)  # LEAK


for tick in ticks():
    for number in range(50):
        load(tick * 50 + number)
