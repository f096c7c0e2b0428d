"""Takes memory until there is none, twice, and lives on."""
import sys
def keep(): return bytes(1000)
def fill(size):
    kept = []
    try:
        while True:
            kept.append(bytes(size))
    except MemoryError:
        return len(kept) > 10

print("large", fill(1 << 20), flush=True)
print("middle", fill(30000), flush=True)
print("small", fill(200), flush=True)
known = [keep() for _ in range(3000)]
print("lives", len(known))
