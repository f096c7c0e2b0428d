# kind: native-held
# native: slot_row
# holder: static variable g_slots in store
# tick: 48000
import store
from pace import ticks


def put(keys):
    for key in keys:
        store.slot_row(key, 0)  # LEAK


for tick in ticks():
    put(range(tick * 16, tick * 16 + 16))
