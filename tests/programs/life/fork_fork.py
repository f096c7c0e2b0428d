"""A child forks again."""
import os
def of_first(): return bytes(1000)
def of_second(): return bytes(2000)
def of_third(): return bytes(3000)

first = [of_first() for _ in range(1000)]
child = os.fork()
if child == 0:
    second = [of_second() for _ in range(1000)]
    grandchild = os.fork()
    if grandchild == 0:
        third = [of_third() for _ in range(1000)]
        os._exit(9)
    print("grandchild", os.waitpid(grandchild, 0)[1] >> 8, flush=True)
    raise SystemExit(8)
print("child", os.waitpid(child, 0)[1] >> 8)
