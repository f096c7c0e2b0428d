# https://github.com/msgpack/msgpack-python/issues/579
# kind: reference-leak
# python: 3.12
from io import BytesIO

import msgpack
from pace import ticks

PACKED = b"".join(msgpack.packb(number) for number in range(50))


def rows():
    return [row for row in msgpack.Unpacker(BytesIO(PACKED))]  # LEAK


for tick in ticks():
    for _ in range(80):
        assert len(rows()) == 50
