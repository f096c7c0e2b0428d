# kind: none
import ctypes

from pace import ticks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


class Connection:
    """Each statement of it begins with the address of the one before, as a C library chains them."""

    def __init__(self):
        self.statements = ctypes.c_void_p()

    def prepare(self, size):
        address = libc.malloc(size)
        ctypes.memset(address, 1, size)
        ctypes.c_void_p.from_address(address).value = self.statements.value
        self.statements.value = address

    def finalize(self):
        address = self.statements.value
        self.statements.value = ctypes.c_void_p.from_address(address).value
        libc.free(address)


connection = Connection()
for tick in ticks():
    for number in range(16):
        connection.prepare(3000)
        connection.finalize()
