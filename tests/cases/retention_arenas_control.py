# kind: none
# Threads that each work in an arena of their own and leave something on top.
import threading

from pace import SECONDS, ticks

KEPT = []
done = threading.Event()


def work():
    rows = [bytearray(b"r" * 4000) for _ in range(800)]
    KEPT.append(bytearray(b"last" * 5000))
    rows.clear()
    KEPT.pop()
    done.wait()


threads = []
for tick in ticks(12 / SECONDS):
    threads.append(threading.Thread(target=work))
    threads[-1].start()
    if len(threads) > 1:
        done.set()
        for thread in threads:
            thread.join()
        threads.clear()
        done.clear()
done.set()
