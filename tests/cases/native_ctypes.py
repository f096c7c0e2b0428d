# kind: native-leak
# tick: 48000
import ctypes

from pace import ticks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def scratch(size):
    address = libc.malloc(size)  # LEAK
    ctypes.memset(address, 1, size)
    return ctypes.string_at(address, 8)


for tick in ticks():
    for number in range(16):
        assert scratch(3000) == b"\x01" * 8
