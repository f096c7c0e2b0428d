"""A small record service that grows.

Rows come in as JSON lines, are looked up in a cache by customer, and go out
packed by the extension `rowpack`. Two things in it keep memory for ever; pyshim
is to say which.
"""

import argparse
import itertools
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "build"))

import rowpack  # noqa: E402

CITIES = ["Aachen", "Bergamo", "Cádiz", "Dresden", "Évora", "Florence", "Ghent"]
WORDS = "amber birch cedar delta ember fjord grove haven isle juniper knoll lark".split()
LINE = '{"id": %d, "customer": %d, "city": "%s", "amount": %d, "note": "%s", "deleted": %s}'

# Customers by key, with their orders of the session.
CACHE = {}


class Totals:
    """What went through so far."""

    def __init__(self):
        self.rows = 0
        self.deleted = 0
        self.sent = 0

    def add(self, row, body):
        self.rows += 1
        self.deleted += row["deleted"]
        self.sent += len(body)


def incoming(seed):
    """Lines as a message queue would hand them over; three in ten delete."""
    chance = random.Random(seed)
    for number in itertools.count():
        yield LINE % (
            number,
            chance.randrange(10**9),
            chance.choice(CITIES),
            chance.randrange(100, 99_999),
            " ".join(chance.choices(WORDS, k=chance.randint(8, 40))),
            "true" if chance.random() < 0.3 else "false",
        )


def parse(line):
    row = json.loads(line)
    row["note"] = row["note"].capitalize()
    return row


def remember(row):
    key = "%s/%d" % (row["city"], row["customer"])
    customer = CACHE.get(key)
    if customer is None:
        customer = CACHE[key] = {"name": key, "orders": []}
    customer["orders"].append(row)
    return customer


def encode(row):
    return rowpack.pack(row)


def checksum(body):
    total = 0
    for byte in body:
        total = (total * 31 + byte) & 0xFFFFFFFF
    return total


def serve(lines, totals):
    for line in lines:
        row = parse(line)
        remember(row)
        body = encode(row)
        row["check"] = checksum(body)
        totals.add(row, body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6, help="how long to serve (default 6)")
    parser.add_argument("--rate", type=int, default=5000, help="rows a second (default 5000)")
    parser.add_argument("--seed", type=int, default=1, help="of the rows that come in")
    options = parser.parse_args()

    lines = incoming(options.seed)
    totals = Totals()
    batch = max(1, options.rate // 20)
    started = time.monotonic()
    due = started
    while time.monotonic() - started < options.seconds:
        serve(itertools.islice(lines, batch), totals)
        due += batch / options.rate
        time.sleep(max(0, due - time.monotonic()))

    print(
        "served %d rows in %.1f s: %d deleted, %d bytes sent, %d customers known"
        % (totals.rows, time.monotonic() - started, totals.deleted, totals.sent, len(CACHE))
    )


if __name__ == "__main__":
    main()
