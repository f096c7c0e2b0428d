# kind: none
from pace import ticks

PAGES = []


def page(number):
    return [{"row": row, "text": "%d " % row * 50} for row in range(number, number + 50)]


for tick in ticks():
    PAGES.append(page(tick * 50 + 100000))
    PAGES.append(page(tick * 50 + 200000))
    del PAGES[:-6]
