# kind: native-held
# native: remember_name
# holder: g_names
# tick: 48000
import blocks
from pace import ticks


def learn(number):
    return blocks.name(number, 0)  # LEAK


known = 0
for tick in ticks():
    for number in range(16):
        known = learn(tick * 16 + number)
