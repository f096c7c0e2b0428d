# kind: python-held
# holder: local 'batch' of collect()
# holder: thread 'collector-7'
# tick: 50000
import queue
import threading

from pace import ticks


def collect(jobs):
    batch = []
    while True:
        batch.append("%08d" % jobs.get() * 120)  # LEAK


jobs = queue.Queue()
threading.Thread(target=collect, args=(jobs,), name="collector-7", daemon=True).start()
for tick in ticks():
    for number in range(50):
        jobs.put(number)
