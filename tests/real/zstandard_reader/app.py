# https://github.com/indygreg/python-zstandard/pull/116
# kind: reference-leak
# python: 3.8
import io
import random

import zstandard
from pace import ticks

chance = random.Random(1)
PACKED = zstandard.ZstdCompressor().compress(bytes(chance.randrange(256) for _ in range(300000)))
unpacker = zstandard.ZstdDecompressor()


def peek():
    with unpacker.stream_reader(io.BytesIO(PACKED)) as reader:
        return reader.read(2)  # LEAK


for tick in ticks(50):
    assert len(peek()) == 2
