# kind: none
from pace import ticks


def make_handler(limit):
    rows = []

    def handle(number):
        rows.append(b"%09d" % number * 100)
        del rows[:-limit]
        return len(rows)

    return handle


handler = make_handler(limit=100)
for tick in ticks():
    for number in range(55):
        handler(number)
