# kind: none
from concurrent.futures import ThreadPoolExecutor

from pace import ticks

FUTURES = []


def fetch(number):
    return b"%06d" % number * 500


with ThreadPoolExecutor(2) as pool:
    for tick in ticks():
        for number in range(16):
            FUTURES.append(pool.submit(fetch, number))
        while len(FUTURES) > 100:
            FUTURES.pop(0).result()
