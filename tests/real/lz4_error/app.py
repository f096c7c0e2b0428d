# https://github.com/python-lz4/python-lz4/pull/255
# kind: native-leak
# python: 3.10
import lz4.frame
from pace import ticks

GOOD = lz4.frame.compress(bytes(range(256)) * 32, content_checksum=True)
BAD = GOOD[:-1] + bytes([GOOD[-1] ^ 1])


def unpack(data):
    try:
        return lz4.frame.decompress(data)  # LEAK
    except RuntimeError:
        return None


for tick in ticks():
    for _ in range(6):
        assert unpack(BAD) is None
