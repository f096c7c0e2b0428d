"""Closes all files that it did not open, opens its own, and allocates."""
import os
import time

def churn():
    kept = []
    for number in range(3000):
        scope = {}
        exec("def site(): return [bytes(%d), bytes(900)]" % number, scope)
        kept.append(scope["site"]())
    return kept

print(sorted(os.listdir("/proc/self/fd"), key=int))
before = churn()
time.sleep(0.15)
os.closerange(3, 256)
files = [open("own.%d" % number, "w+b", buffering=0) for number in range(40)]
print([file.fileno() for file in files])
for round in range(5):
    for number, file in enumerate(files):
        file.write(b"%d " % number * 1000)
    more = churn()
    time.sleep(0.05)
print(sorted(os.listdir("/proc/self/fd"), key=int))
for number, file in enumerate(files):
    file.seek(0)
    assert file.read() == b"%d " % number * 5000, number
print("intact")
