# kind: none
# env: PYSHIM_SNAPSHOT=every=3500ms
from pace import ticks


def main():
    rows = []
    for tick in ticks():
        for number in range(50):
            rows.append("%08d" % number * 120)
        del rows[:-50]


main()
