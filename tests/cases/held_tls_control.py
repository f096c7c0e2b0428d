# kind: none
# Each thread has a list of its own; nobody else can see it.
import queue
import threading

import store
from pace import ticks


def work(jobs):
    while True:
        store.thread_row(jobs.get(), 100)


jobs = queue.Queue()
threading.Thread(target=work, args=(jobs,), name="writer", daemon=True).start()
for tick in ticks():
    for number in range(16):
        jobs.put(tick * 16 + number)
