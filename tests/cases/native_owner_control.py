# kind: none
# Python objects of a C type, each with a block of native memory.
import boxes
from pace import ticks

BLOBS = []


def blob():
    BLOBS.append(boxes.Blob(4096))
    del BLOBS[:-100]


for tick in ticks():
    for _ in range(12):
        blob()
