# kind: native-held
# holder: module __main__ → BLOCK
# tick: 48000
import ctypes

from pace import ticks

libc = ctypes.CDLL(None)
libc.realloc.restype = ctypes.c_void_p
libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

BLOCK = [None]

for tick in ticks():
    BLOCK[0] = libc.realloc(BLOCK[0], (tick + 1) * 48000)  # LEAK
    ctypes.memset(BLOCK[0] + tick * 48000, 1, 48000)
