# Threads that wait for ever, each with a stack that it has used.
# kind: mapping
# evidence: thread
import threading

from pace import ticks

done = threading.Event()
NESTED = []
for _ in range(300):
    NESTED = [NESTED]


def serve():
    len(repr(NESTED))
    done.wait()


waiting = []
for tick in ticks(30):
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()  # LEAK
    waiting.append(thread)
