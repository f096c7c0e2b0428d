# Each handler calls the one before it.
# kind: python-held
# holder: signal
# tick: 48000
import signal

from pace import ticks


def install(number):
    state = b"%06d" % number * 500  # LEAK
    before = signal.getsignal(signal.SIGUSR1)

    def handler(signum, frame):
        if callable(before):
            before(signum, frame)
        return state

    signal.signal(signal.SIGUSR1, handler)


for tick in ticks():
    for number in range(16):
        install(number)
