"""Waves of blocks from four threads, each of its own height; all threads stand at the crest of one
of them together, and that is the most that ever lives. Prints how many blocks of each kind live then."""

import sys
import threading
import time

# So that little is spent on the start, and small rises are noted.
time.sleep(0.3)


def ground():
    return bytes(1000)


def wave():
    return bytes(10_000)


def ripple():
    return bytes(50)


HEIGHTS = [400, 900, 1100, 300, 1500, 1485, 1350, 200, 1500]
CREST = 4
THREADS = 4
barrier = threading.Barrier(THREADS)


def work(number):
    for at, height in enumerate(HEIGHTS):
        kept = []
        for i in range(height):
            kept.append(wave())
            # Most that comes goes soon.
            [ripple() for _ in range(20)]
        if at == CREST:
            barrier.wait()
        # (From here on, there is less in every thread.)
        kept.clear()
        if at == CREST:
            barrier.wait()
        elif at > CREST:
            # One thread after the other.
            time.sleep(0.01 * number)


known = [ground() for _ in range(5000)]
threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
sys.setswitchinterval(0.001)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(known), THREADS * HEIGHTS[CREST])
