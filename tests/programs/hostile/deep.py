"""Deep recursion, with and without an end."""
import sys
import threading
KEPT = []
def keep(): return bytes(1000)

def down(depth):
    KEPT.append(keep())
    return depth if depth == 0 else down(depth - 1)

def endless(depth):
    return [endless(depth + 1), bytes(100)]

def run():
    print(down(3000))
    try:
        endless(0)
    except RecursionError as error:
        print(type(error).__name__)
    print(len(sorted(range(100), key=lambda number: down(10))))

sys.setrecursionlimit(9000)
threading.stack_size(512 << 20)
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(len(KEPT))
