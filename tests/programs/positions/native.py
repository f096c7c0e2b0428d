"""Blocks that native code makes while the interpreter lock is released, by several
threads at once, while others run Python. Prints where: size or least size, file, line, function."""
import ctypes
import json
import threading

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
HELD = ctypes.PyDLL(None)
HELD.malloc.restype = ctypes.c_void_p
HELD.malloc.argtypes = [ctypes.c_size_t]

TOLD = []
KEPT = []
BLOCKS = 300


def tell(kind, function, line, size=None, blocks=None, at_least=None):
    code = function.__code__
    name = getattr(code, "co_qualname", code.co_name)
    place = [code.co_filename, code.co_firstlineno + line, name]
    TOLD.append({"kind": kind, "place": place, "size": size, "blocks": blocks, "at_least": at_least})


def unlocked_1():
    for _ in range(BLOCKS):
        LIBC.malloc(70001)


def unlocked_2():
    for _ in range(BLOCKS):
        LIBC.malloc(70002)


def unlocked_3():
    for _ in range(BLOCKS):
        busy(5)
        LIBC.malloc(70003)


def locked():
    for _ in range(BLOCKS):
        HELD.malloc(70004)


def busy(depth):
    return [depth, busy(depth - 1)] if depth else []


def churn():
    while not stop.is_set():
        busy(20)


stop = threading.Event()
churning = [threading.Thread(target=churn) for _ in range(2)]
working = [threading.Thread(target=work) for work in (unlocked_1, unlocked_2, unlocked_3, locked)]
for thread in churning + working:
    thread.start()
for thread in working:
    thread.join()
tell("without the lock", unlocked_1, 2, size=70001, blocks=BLOCKS)
tell("without the lock", unlocked_2, 2, size=70002, blocks=BLOCKS)
tell("without the lock", unlocked_3, 3, size=70003, blocks=BLOCKS)
tell("with the lock", locked, 2, size=70004, blocks=BLOCKS)


def compressor():
    KEPT.append(zlib.compressobj())


def database():
    base = sqlite3.connect(":memory:", check_same_thread=False)
    KEPT.append(base)
    base.execute("create table t (a text)")
    base.execute("insert into t values (zeroblob(400000))")


def digest():
    for _ in range(300):
        KEPT.append(hashlib.sha256(b"x" * 100000))


def buffers():
    for _ in range(3):
        KEPT.append(bz2.BZ2Compressor())


try:
    import zlib
except ImportError:
    pass
else:
    tell("zlib", compressor, 1, at_least=200000)
    compressor()
try:
    import sqlite3
except ImportError:
    pass
else:
    tell("sqlite3", database, 4, at_least=350000)
    database()
try:
    import hashlib
    hashlib.sha256(b"")
except (ImportError, ValueError):
    pass
else:
    tell("hashlib", digest, 2, at_least=300 * 100)
    digest()
try:
    import bz2
except ImportError:
    pass
else:
    tell("bz2", buffers, 2, at_least=3 * 1000000)
    buffers()

stop.set()
for thread in churning:
    thread.join()
for one in TOLD:
    print(json.dumps(one))
