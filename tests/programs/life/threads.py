"""Two thousand threads, fifty at a time, of which each keeps a block."""
import threading
KEPT = []
def keep(): return bytes(1000)

def work():
    churn = [bytes(number) for number in range(300)]
    KEPT.append(keep())
    del churn

for _ in range(2000 // 50):
    group = [threading.Thread(target=work) for _ in range(50)]
    for thread in group:
        thread.start()
    for thread in group:
        thread.join()
print(len(KEPT), threading.active_count())
