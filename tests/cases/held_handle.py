# kind: native-held
# tick: 48000
# holder: connection
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
        address = libc.malloc(size)  # LEAK
        ctypes.memset(address, 1, size)
        ctypes.c_void_p.from_address(address).value = self.statements.value
        self.statements.value = address


connection = Connection()
for tick in ticks():
    for number in range(16):
        connection.prepare(3000)
