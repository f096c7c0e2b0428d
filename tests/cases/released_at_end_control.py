# Bounded, and gone when the function returns.
# kind: none
from pace import ticks


def main():
    rows = []
    for tick in ticks():
        for number in range(50):
            rows.append("%08d" % number * 120)
        del rows[:-2000]


main()
