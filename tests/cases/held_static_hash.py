# kind: native-held
# native: hash_row
# holder: static variable g_table in store
# tick: 48000
import store
from pace import ticks


def remember(key):
    return store.hash_row(key, 0)  # LEAK


for tick in ticks():
    for number in range(16):
        remember(tick * 16 + number)
