# kind: none
# What the long-running function of the main thread has in its local variables.
# env: PYSHIM_SNAPSHOT=every=2s
# ends: killed
import os
import signal

from pace import ticks


def main():
    rows = []
    for tick in ticks():
        for number in range(50):
            rows.append("%08d" % number * 120)
        del rows[:-300]
    os.kill(os.getpid(), signal.SIGKILL)


main()
