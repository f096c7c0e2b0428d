# A call that never returns has the list on its stack.
# kind: native-held
# native: gather
# holder: thread
# tick: 48000
import queue
import threading

import store
from pace import ticks


def gather(jobs):
    store.gather(iter(jobs.get, None), 0)  # LEAK


jobs = queue.Queue()
threading.Thread(target=gather, args=(jobs,), name="gatherer", daemon=True).start()
for tick in ticks():
    for number in range(16):
        jobs.put(tick * 16 + number)
