"""Forks, then waits for the collector, keeps blocks at places of C code, and is killed."""
import ctypes
import os
import signal
import sys
import time


def wait_for_the_collector():
    """It comes back a while after a fork; while it does, a program goes on as ever."""
    before = time.monotonic()
    while len(os.listdir("/proc/self/task")) < 2:
        str(before) + "a"
        if time.monotonic() > before + 60:
            sys.exit("no collector")


def fork():
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


wait_for_the_collector()
fork()
wait_for_the_collector()
# Within a tenth of a second of its being there, a new place is in the dump.
kept = [bytearray(100000 + n) for n in range(50)]
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
