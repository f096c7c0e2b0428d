# The same as released_at_end, with a snapshot in between: that says who held it.
# kind: python-held
# holder: local 'rows' of main()
# evidence: was let go
# env: PYSHIM_SNAPSHOT=every=3500ms
# tick: 50000
from pace import ticks


def main():
    rows = []
    for tick in ticks():
        for number in range(50):
            rows.append("%08d" % number * 120)  # LEAK


main()
