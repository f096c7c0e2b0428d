# What a function had until it returned: gone before the last moment, but it is why memory grew.
# kind: python-held
# evidence: was let go
# advice: take a snapshot while it grows
# tick: 50000
from pace import ticks


def main():
    rows = []
    for tick in ticks():
        for number in range(50):
            rows.append("%08d" % number * 120)  # LEAK


main()
