"""From 3.12 on a fork warns if the process has more than one thread."""
import os
import time

for _ in range(12):
    kept = [bytes(number) for number in range(3000)]
    time.sleep(0.12)
    kept = [bytes(number) for number in range(3000)]
    pid = os.fork()
    if pid == 0:
        os._exit(len([0] * 100))
    assert os.waitpid(pid, 0)[1] >> 8 == 100
    task = len(os.listdir("/proc/self/task"))
print("forked", task)
