# kind: none
import blocks
from pace import ticks


class Writer:
    def __init__(self):
        self.written = 0

    def write(self, number):
        self.written += blocks.row(number, False)


writer = Writer()
for tick in ticks():
    for number in range(12):
        writer.write(number)
