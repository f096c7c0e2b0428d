# kind: none
# Killed, because a program that ends by itself has run and dropped them all.
# env: PYSHIM_SNAPSHOT=every=2s
# ends: killed
import atexit
import os
import signal
from collections import deque

from pace import ticks

LATEST = deque(maxlen=50)


def flush(buffer):
    return len(buffer)


def open_log(number):
    buffer = bytearray(b"%06d" % number * 500)
    LATEST.append(buffer)


for tick in ticks():
    for number in range(16):
        open_log(number)
os.kill(os.getpid(), signal.SIGKILL)
