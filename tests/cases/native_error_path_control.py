# kind: none
import packer
from pace import ticks

GOOD = b"1" + b"x" * 4095
BAD = b"-" + b"x" * 4095


def parse(row):
    try:
        return packer.parse_row_freed(row)
    except ValueError:
        return None


def main():
    for tick in ticks():
        for number in range(24):
            parse(BAD if number % 2 else GOOD)


main()
