# kind: native-leak
# native: new_row
# tick: 48000
import blocks
from pace import ticks


class Writer:
    def __init__(self):
        self.written = 0

    def write(self, number):
        self.written += blocks.row(number, True)  # LEAK


writer = Writer()
for tick in ticks():
    for number in range(12):
        writer.write(number)
