"""Leaves holes in the heaps of the C library and of pymalloc, and says at its end how much is free
there by the allocators' own account. Theirs of pymalloc goes to stderr, but only while no hooks are
installed."""

import atexit
import ctypes
import json
import sys

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]


class Mallinfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


libc.mallinfo2.restype = Mallinfo

# Every second block is freed: all of it stays resident.
BLOCKS = [libc.malloc(4000) for _ in range(12_000)]
for block in BLOCKS:
    ctypes.memset(block, 1, 4000)
for block in BLOCKS[::2]:
    libc.free(block)
OBJECTS = [bytes(463) for _ in range(120_000)]
del OBJECTS[::2]


def say():
    file = libc.fopen(b"malloc_info.xml", b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    info = libc.mallinfo2()
    print(json.dumps({name: getattr(info, name) for name in Mallinfo.names.split()}), flush=True)
    sys._debugmallocstats()


atexit.register(say)
