# kind: none
import fields
from pace import ticks


class Parcel:
    def __init__(self):
        self.weight = 7
        self.data = bytearray(b"p" * 3000)


def weigh():
    return fields.weigh(Parcel, False)


for tick in ticks():
    for _ in range(15):
        weigh()
