"""No descriptor is left, and it goes on allocating."""
import os
import resource
def keep(): return bytes(1000)

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
scopes = [{} for _ in range(6000)]
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(error.strerror, len(opened))
kept = []
for number, scope in enumerate(scopes):
    exec("def site_%d(): return [bytes(%d), bytes(900)]" % (number, number % 3000), scope)
    kept.append(scope["site_%d" % number]())
known = [keep() for _ in range(3000)]
try:
    os.open("/dev/null", os.O_RDONLY)
except OSError as error:
    print(error.strerror)
child = os.fork()
if child == 0:
    own = [keep() for _ in range(100)]
    os._exit(len(own))
print(os.waitpid(child, 0)[1] >> 8, len(kept), len(known))
