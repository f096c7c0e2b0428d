"""Next to nothing."""
import sys
def keep(): return bytes(1000)

kept = [keep() for _ in range(3000)]
print("hello", sys.argv[1:], __name__)
