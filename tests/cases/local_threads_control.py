# kind: none
import queue
import threading

from pace import ticks


def collect(jobs):
    batch = []
    while True:
        batch.append("%08d" % jobs.get() * 120)
        if len(batch) > 20:
            batch.clear()


jobs = [queue.Queue() for _ in range(12)]
for own in jobs:
    threading.Thread(target=collect, args=(own,), daemon=True).start()
for tick in ticks():
    for number in range(50):
        jobs[number % 12].put(number)
