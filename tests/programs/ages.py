"""Three batches of small blocks with time between them, long enough for generations to be merged. Prints
how old each function's blocks are in the end, in seconds, also those of a forked child."""

import json
import os
import sys
import time

COUNT = 3000


def first():
    kept = []
    for i in range(COUNT):
        kept.append(bytes(40 + i % 8))
    return kept, time.monotonic()


def second():
    kept = []
    for i in range(COUNT):
        kept.append(bytes(40 + i % 8))
    return kept, time.monotonic()


def third():
    kept = []
    for i in range(COUNT):
        kept.append(bytes(40 + i % 8))
    return kept, time.monotonic()


def say(**batches):
    now = time.monotonic()
    print(json.dumps({"pid": os.getpid(), **{name: now - at for name, (_, at) in batches.items()}}))
    sys.stdout.flush()


old = first()
time.sleep(2.5)
middle = second()
time.sleep(1.5)
young = third()
time.sleep(0.5)
if os.fork() == 0:
    # What is older is the parent's.
    time.sleep(1.0)
    own = first()
    time.sleep(1.0)
    say(first=own)
    os._exit(0)
os.wait()
say(first=old, second=middle, third=young)
