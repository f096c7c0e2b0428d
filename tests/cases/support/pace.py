"""Paces a case: what each of its loops runs over, and its start-up.

`for tick in ticks():` runs a hundred times a second for as long as argv[1] says
(seconds, default 8), and prints how often it ran when it ends. Importing this
module does what a service does when it starts: imports, and a table built once.
"""

import argparse  # noqa: F401
import decimal
import email.message  # noqa: F401
import http.client  # noqa: F401
import json
import logging  # noqa: F401
import sys
import time

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
BEGAN = time.monotonic()

TABLE = {
    key: {"price": decimal.Decimal(key) / 7, "name": "article %d" % key, "tags": [key, key + 1]}
    for key in range(4000)
}
SETTINGS = json.loads(json.dumps({str(key): str(row["price"]) for key, row in TABLE.items()}))


def ticks(rate=100):
    """Numbers the ticks; a late one does not make the following ones late."""
    tick = 0
    while time.monotonic() - BEGAN < SECONDS:
        yield tick
        tick += 1
        time.sleep(max(0.0005, BEGAN + tick / rate - time.monotonic()))
    print("ticks", tick, flush=True)


def elapsed():
    """The part of the time that is over, from 0 to 1."""
    return min(1.0, (time.monotonic() - BEGAN) / SECONDS)
