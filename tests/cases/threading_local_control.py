# kind: none
# Threads that live on, each with values of its own.
import queue
import threading

from pace import ticks

LOCAL = threading.local()


def remember(number):
    if not hasattr(LOCAL, "rows"):
        LOCAL.rows = []
    LOCAL.rows.append(b"%06d" % number * 500)
    del LOCAL.rows[:-50]


def work(jobs):
    while True:
        remember(jobs.get())


jobs = queue.Queue()
for number in range(4):
    threading.Thread(target=work, args=(jobs,), name="pool-%d" % number, daemon=True).start()
for tick in ticks():
    for number in range(16):
        jobs.put(number)
