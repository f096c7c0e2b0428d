# kind: none
# A text that is built anew with each piece.
from pace import ticks


def build(count):
    pieces = ["piece %d;" % number for number in range(count)]
    return "".join(pieces)


for tick in ticks():
    assert len(build(60)) > 500
