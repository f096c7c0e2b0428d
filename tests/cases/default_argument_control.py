# kind: none
from pace import ticks


def add(number, rows=[]):
    rows.append(b"%09d" % number * 100)
    del rows[:-100]
    return rows


for tick in ticks():
    for number in range(55):
        add(number)
