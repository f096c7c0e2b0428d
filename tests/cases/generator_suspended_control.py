# kind: none
from pace import ticks


def window():
    rows = []
    number = 0
    while True:
        number += 1
        rows.append(b"%09d" % number * 100)
        del rows[:-100]
        yield rows[-1]


WINDOW = window()
for tick in ticks():
    for _ in range(55):
        next(WINDOW)
