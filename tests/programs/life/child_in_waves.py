"""A process with forty million bytes forks a child, which takes fifteen million and lets them go."""
import os
import time

kept = [bytes(1000) for _ in range(40_000)]
if os.fork() == 0:
    # (A dump of its own begins a little later.)
    time.sleep(0.1)
    for _ in range(3):
        wave = [bytes(100_000) for _ in range(150)]
        del wave
    raise SystemExit(0)
print(os.wait()[1])
