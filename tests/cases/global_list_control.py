# kind: none
from pace import ticks

ROWS = []


def load(number):
    ROWS.append("row %08d " % number + "." * 900)
    del ROWS[:-500]


for tick in ticks():
    for number in range(50):
        load(tick * 50 + number)
