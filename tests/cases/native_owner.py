# Python objects of a C type, each with a block of native memory.
# kind: python-held
# holder: module __main__ → BLOBS
# native: blob_data
# tick: 49152
import boxes
from pace import ticks

BLOBS = []


def blob():
    BLOBS.append(boxes.Blob(4096))  # LEAK


for tick in ticks():
    for _ in range(12):
        blob()
