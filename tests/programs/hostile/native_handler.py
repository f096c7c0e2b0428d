"""A native signal handler beside much allocation; the argument is its library."""
import ctypes
import sys
def keep(): return bytes(1000)

library = ctypes.CDLL(sys.argv[1])
library.start()
total = 0
for number in range(60000):
    block = [str(number + other) for other in range(50)]
    total += len("".join(block))
known = [keep() for _ in range(3000)]
print(total, len(known), library.seen() > 4)
