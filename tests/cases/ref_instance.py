# kind: reference-leak
# type: Parcel
# tick: 48000
import fields
from pace import ticks


class Parcel:
    def __init__(self):
        self.weight = 7
        self.data = bytearray(b"p" * 3000)  # LEAK


def weigh():
    return fields.weigh(Parcel, True)  # LEAK


for tick in ticks():
    for _ in range(15):
        weigh()
