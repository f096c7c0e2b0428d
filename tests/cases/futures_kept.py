# kind: python-held
# holder: module __main__ → FUTURES
# tick: 48000
from concurrent.futures import ThreadPoolExecutor

from pace import ticks

FUTURES = []


def fetch(number):
    return b"%06d" % number * 500  # LEAK


with ThreadPoolExecutor(2) as pool:
    for tick in ticks():
        for number in range(16):
            FUTURES.append(pool.submit(fetch, number))
