# kind: none
# Each handler calls the one before it.
import signal

from pace import ticks


def install(number):
    state = b"%06d" % number * 500
    before = signal.SIG_DFL

    def handler(signum, frame):
        if callable(before):
            before(signum, frame)
        return state

    signal.signal(signal.SIGUSR1, handler)


for tick in ticks():
    for number in range(16):
        install(number)
