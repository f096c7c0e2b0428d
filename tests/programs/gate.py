"""A benchmark whose memory is the same in every run, for tests that change one thing in it.

The environment variable NOISE says how many blocks one of its lines keeps.
"""

import json
import os
import sys
import time

KEPT = []
CACHE = {}


def parse(number):
    text = '{"id": %d, "note": "%s"}' % (number, "x" * 40)
    return json.loads(text)


def load(rows):
    for number in range(rows):
        row = parse(number)
        if number % 8 == 0:
            CACHE[number] = row


def noisy():
    for _ in range(int(os.environ.get("NOISE", "0"))):
        KEPT.append(bytearray(900))


def work():
    total = 0
    for number in range(4000):
        total += len(str(number) * 3)
    return total


def serve(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        KEPT.append(bytearray(20_000))
        time.sleep(0.01)


load(2000)
noisy()
work()
serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
