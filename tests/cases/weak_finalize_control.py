# kind: none
# Killed, because at a normal end all finalizers are called first.
# env: PYSHIM_SNAPSHOT=every=2s
# ends: killed
import os
import signal
import weakref

from pace import ticks


class Connection:
    pass


def close(buffer):
    buffer.clear()


POOL = [Connection() for _ in range(10)]


def request(number):
    buffer = bytearray(b"%06d" % number * 500)
    weakref.finalize(Connection(), close, buffer)


for tick in ticks():
    for number in range(16):
        request(number)
os.kill(os.getpid(), signal.SIGKILL)
