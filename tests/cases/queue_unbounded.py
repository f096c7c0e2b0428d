# kind: python-held
# holder: module __main__ → JOBS
# tick: 45000
import queue
import threading

from pace import ticks

JOBS = queue.Queue()
go_on = threading.Semaphore(0)


def work():
    while go_on.acquire():
        JOBS.get()


threading.Thread(target=work, name="slow", daemon=True).start()
for tick in ticks():
    for number in range(16):
        JOBS.put(b"%06d" % number * 500)  # LEAK
    go_on.release()
