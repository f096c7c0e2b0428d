"""Forks a hundred times beside eight threads that allocate."""
import os
import sys
import threading
def keep(): return bytes(1000)
def of_child(): return bytes(2000)

# Threads take turns often, so that forks come between them, and soon.
sys.setswitchinterval(0.0002)
stop = threading.Event()
def churn():
    while not stop.is_set():
        kept = [bytes(number) for number in range(700)]
        del kept

threads = [threading.Thread(target=churn) for _ in range(8)]
for thread in threads:
    thread.start()
known = [keep() for _ in range(3000)]
ended = []
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        own = [of_child() for _ in range(50)]
        os._exit(len(own))
    ended.append(os.waitpid(pid, 0)[1] >> 8)
stop.set()
for thread in threads:
    thread.join()
print(len(known), set(ended), len(ended))
