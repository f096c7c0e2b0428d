# kind: python-held
# holder: add
# holder: rows
# tick: 50000
from pace import ticks


def add(number, rows=[]):
    rows.append(b"%09d" % number * 100)  # LEAK
    return rows


for tick in ticks():
    for number in range(55):
        add(number)
