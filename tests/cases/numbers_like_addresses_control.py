# kind: none
import ctypes
import time

from pace import ticks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

HIGH = 10**9
times = (ctypes.c_uint64 * 65536)()
lengths = (ctypes.c_uint64 * 32768)()


def work(place):
    address = libc.malloc(3000)
    ctypes.memset(address, 1, 3000)
    low = address if address + 3000 < HIGH else 0
    times[2 * place] = int(time.time())
    times[2 * place + 1] = low + 800
    lengths[place] = low + 1201
    libc.free(address)


place = 0
for tick in ticks():
    for number in range(16):
        work(place % 32768)
        place += 1
