# kind: mapping
# native: keep_pages
# tick: 65536
import pages
from pace import ticks


def reserve(key):
    pages.keep_pages(key, 65536, 0)  # LEAK


for tick in ticks():
    reserve(tick)
