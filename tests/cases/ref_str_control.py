# kind: none
# env: PYSHIM_NATIVE=full
import fields
from pace import ticks


class Query:
    def __init__(self, number):
        self.number = number

    def __str__(self):
        return "select %d " % self.number + "x" * 2900


def main():
    for tick in ticks():
        for number in range(16):
            fields.text_length(Query(number), False)


main()
