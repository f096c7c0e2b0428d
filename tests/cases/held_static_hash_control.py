# kind: none
import store
from pace import ticks


def remember(key):
    return store.hash_row(key, 300)


for tick in ticks():
    for number in range(16):
        remember(tick * 16 + number)
