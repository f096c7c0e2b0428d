# kind: native-leak
# tick: 48000
import ctypes
import time

from pace import ticks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]

# Where the heap lies low, nanoseconds and lengths are numbers like addresses within its blocks.
HIGH = 10**9
times = (ctypes.c_uint64 * 65536)()
lengths = (ctypes.c_uint64 * 32768)()


def lose(place):
    address = libc.malloc(3000)  # LEAK
    ctypes.memset(address, 1, 3000)
    low = address if address + 3000 < HIGH else 0
    times[2 * place] = int(time.time())
    times[2 * place + 1] = low + 800
    lengths[place] = low + 1201


place = 0
for tick in ticks():
    for number in range(16):
        lose(place % 32768)
        place += 1
