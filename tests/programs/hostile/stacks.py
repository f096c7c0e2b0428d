"""Allocates along more call stacks than there is room for, then leaks."""
def keep(): return bytes(1000)

def down(path, depth):
    if depth == 0:
        return [bytes(600)]
    if path & 1:
        return down(path >> 1, depth - 1)
    else:
        return down(path >> 1, depth - 1)

for path in range(1 << 18):
    down(path, 18)
known = [keep() for _ in range(3000)]
print(len(known))
