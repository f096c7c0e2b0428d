# kind: python-held
# holder: window
# holder: rows
# tick: 50000
from pace import ticks


def window():
    rows = []
    number = 0
    while True:
        number += 1
        rows.append(b"%09d" % number * 100)  # LEAK
        yield rows[-1]


WINDOW = window()
for tick in ticks():
    for _ in range(55):
        next(WINDOW)
