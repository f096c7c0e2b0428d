"""Goes elsewhere and keeps allocating at new places."""
import os
import time
def keep(): return bytes(1000)

os.chdir("/")
kept = []
for number in range(4000):
    scope = {}
    exec("def site(): return [bytes(%d), bytes(900)]" % number, scope)
    kept.append(scope["site"]())
    if number % 1000 == 0:
        time.sleep(0.06)
known = [keep() for _ in range(3000)]
print(os.getcwd(), len(kept))
