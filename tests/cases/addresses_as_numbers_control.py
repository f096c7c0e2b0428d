# kind: none
import ctypes

from pace import ticks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

KEPT = []

for tick in ticks():
    for number in range(16):
        KEPT.append(libc.malloc(3000))
    for address in KEPT[:-200]:
        libc.free(address)
    del KEPT[:-200]
