# Killed, because a program that ends by itself has run and dropped them all.
# kind: python-held
# holder: atexit
# env: PYSHIM_SNAPSHOT=every=2s
# ends: killed
# tick: 48000
import atexit
import os
import signal

from pace import ticks



def flush(buffer):
    return len(buffer)


def open_log(number):
    buffer = bytearray(b"%06d" % number * 500)  # LEAK
    atexit.register(flush, buffer)


for tick in ticks():
    for number in range(16):
        open_log(number)
os.kill(os.getpid(), signal.SIGKILL)
