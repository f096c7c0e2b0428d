# kind: python-held
# holder: module __main__ → CACHE
# tick: 50000
import json

from pace import ticks

CACHE = {}


def parse(text):
    return json.loads(text)  # LEAK


def lookup(key):
    if key not in CACHE:
        CACHE[key] = parse('{"id": %d, "body": "%s"}' % (key, "y" * 900))
    return CACHE[key]


for tick in ticks():
    for number in range(40):
        lookup(tick * 40 + number)
        lookup(tick * 40 + number // 2)
