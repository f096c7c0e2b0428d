# kind: none
import json

from pace import ticks

CACHE = {}


def parse(text):
    return json.loads(text)


def lookup(key):
    if key not in CACHE:
        CACHE[key] = parse('{"id": %d, "body": "%s"}' % (key, "y" * 900))
        if len(CACHE) > 300:
            del CACHE[next(iter(CACHE))]
    return CACHE[key]


for tick in ticks():
    for number in range(40):
        lookup(tick * 40 + number)
        lookup(tick * 40 + number // 2)
