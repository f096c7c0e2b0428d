# A text that is built anew with each piece.
# kind: churn
from pace import ticks


def build(count):
    pieces = ()
    for number in range(count):
        pieces = pieces + ("piece %d;" % number,)  # LEAK
    return "".join(pieces)


for tick in ticks():
    assert len(build(600)) > 5000
