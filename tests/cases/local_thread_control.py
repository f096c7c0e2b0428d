# kind: none
import queue
import threading

from pace import ticks


def collect(jobs):
    batch = []
    while True:
        batch.append("%08d" % jobs.get() * 120)
        if len(batch) > 200:
            batch.clear()


jobs = queue.Queue()
threading.Thread(target=collect, args=(jobs,), name="collector-7", daemon=True).start()
for tick in ticks():
    for number in range(50):
        jobs.put(number)
