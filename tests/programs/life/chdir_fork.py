"""Goes elsewhere, then forks."""
import os
import sys

def of_parent(): return bytes(1000)
def of_child(): return bytes(1000)

os.mkdir("elsewhere")
os.chdir("elsewhere")
kept = [of_parent() for _ in range(1000)]
pid = os.fork()
if pid == 0:
    kept = [of_child() for _ in range(1000)]
    sys.exit(0)
_, status = os.waitpid(pid, 0)
print(len(kept), status, os.listdir("."))
