# kind: none
import pages
from pace import ticks


def reserve(key):
    pages.keep_pages(key, 65536, 20)


for tick in ticks():
    reserve(tick)
