"""A child keeps blocks of its own and frees some of its parent's."""
import os
import sys
def of_parent(): return bytes(1000)
def of_child(): return bytes(3000)

kept = [of_parent() for _ in range(2000)]
pid = os.fork()
if pid == 0:
    own = [of_child() for _ in range(1000)]
    del kept[:1500]
    print("child", len(own), len(kept), flush=True)
    sys.exit(4)
_, status = os.waitpid(pid, 0)
more = [of_parent() for _ in range(500)]
print("parent", status >> 8, len(kept))
