# Threads that each work in an arena of their own and leave something on top.
# kind: allocator-retention
# evidence: arena
import threading

from pace import SECONDS, ticks

KEPT = []
done = threading.Event()


def work():
    rows = [bytearray(b"r" * 4000) for _ in range(800)]  # LEAK
    KEPT.append(bytearray(b"last" * 5000))
    rows.clear()
    done.wait()


threads = []
for tick in ticks(12 / SECONDS):
    threads.append(threading.Thread(target=work))
    threads[-1].start()
done.set()
