# https://github.com/ultrajson/ultrajson/issues/419
# kind: reference-leak
# python: 3.8
import ujson
from pace import ticks


def report(first):
    rows = {first + at: "x" for at in range(300)}  # LEAK
    return ujson.dumps(rows)  # LEAK


for tick in ticks():
    for number in range(4):
        report(1000 + tick * 2000 + number * 500)
