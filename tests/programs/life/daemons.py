"""Daemon threads are allocating when the interpreter goes away."""
import threading
import time

def churn():
    while True:
        kept = [bytes(number) for number in range(700)]
        del kept

for _ in range(6):
    threading.Thread(target=churn, daemon=True).start()
time.sleep(0.15)
print("main ends")
