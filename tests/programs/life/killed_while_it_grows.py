"""Grows for four seconds, and is killed."""
import os
import signal
import time

kept = []
until = time.monotonic() + 4
while time.monotonic() < until:
    kept.extend(bytes(1000) for _ in range(20))
    time.sleep(0.01)
print(len(kept), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
