# The question: "I call gc.collect(), and the memory stays".
# kind: python-held
# holder: module __main__ → OPEN
# advice: gc.collect()
# tick: 96000
import gc

from pace import ticks


class Document:
    def __init__(self, number):
        self.pages = []
        self.text = b"%06d" % number * 500  # LEAK
        self.pages.append(self)


OPEN = {}


def open_document(number):
    document = Document(number)  # LEAK
    OPEN[number] = document
    return document


for tick in ticks(50):
    for number in range(32):
        open_document(tick * 32 + number)
    if tick % 10 == 0:
        gc.collect()
