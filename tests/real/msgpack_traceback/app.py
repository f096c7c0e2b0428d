# https://github.com/msgpack/msgpack-python/issues/579
# kind: reference-leak
# python: 3.12
import msgpack
from pace import ticks

PACKED = b"".join(msgpack.packb(number) for number in range(50))
unpacker = msgpack.Unpacker()


def rows():
    unpacker.feed(PACKED)
    return [row for row in unpacker]  # LEAK


for tick in ticks():
    for _ in range(80):
        assert len(rows()) == 50
