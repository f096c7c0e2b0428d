"""Four threads of work that lets go of the interpreter lock: compression,
digests, and a C library (regcomp) that allocates some hundred small blocks.
"""

import ctypes
import hashlib
import sys
import threading
import zlib

THREADS = 4
PATTERN = b"^([a-z]+[0-9]{1,4}|(foo|bar|baz)*)(x?y?z?)+[[:alpha:]_-]{2,6}$"
REG_EXTENDED = 1

libc = ctypes.CDLL(None)


def compress(data):
    return zlib.decompress(zlib.compress(data, 1))


def digest(data):
    return hashlib.sha256(data).digest() + hashlib.blake2b(data).digest()


def compile_pattern():
    # regex_t has 64 bytes on 64-bit Linux.
    pattern = ctypes.create_string_buffer(64)
    if libc.regcomp(pattern, PATTERN, REG_EXTENDED) != 0:
        raise SystemExit("regcomp failed")
    libc.regfree(pattern)


def work(seed, rounds):
    data = b"".join(b"%d %d\n" % (i, i * seed) for i in range(5000))
    for _ in range(rounds):
        compress(data)
        digest(data)
        for _ in range(4):
            compile_pattern()


def main(rounds):
    threads = [
        threading.Thread(target=work, args=(7919 + i, rounds)) for i in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main(int(sys.argv[1]))
