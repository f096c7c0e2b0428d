# kind: none
# A call that never returns has the list on its stack.
import queue
import threading

import store
from pace import ticks


def gather(jobs):
    store.gather(iter(jobs.get, None), 100)


jobs = queue.Queue()
threading.Thread(target=gather, args=(jobs,), name="gatherer", daemon=True).start()
for tick in ticks():
    for number in range(16):
        jobs.put(tick * 16 + number)
