# kind: python-held
# holder: module __main__ → HANDLES
# native: blob_data
# tick: 49152
import boxes
from pace import ticks

HANDLES = {}


def handle(number):
    HANDLES[number] = boxes.capsule(4096)  # LEAK


for tick in ticks():
    for number in range(12):
        handle(tick * 12 + number)
