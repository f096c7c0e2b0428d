"""A handler that allocates, a thousand times a second."""
import signal
import threading
import time
def keep(): return bytes(1000)
HANDLED = []
def handle(number, frame): HANDLED.append([bytes(size) for size in range(40)])

def work(rounds):
    total = 0
    for number in range(rounds):
        block = [str(number + other) for other in range(50)]
        total += len("".join(block))
    return total

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
helper = threading.Thread(target=work, args=(10000,))
helper.start()
total = work(40000)
known = [keep() for _ in range(3000)]
helper.join()
time.sleep(0.05)
signal.setitimer(signal.ITIMER_REAL, 0)
print(total, len(known), len(HANDLED) > 50)
