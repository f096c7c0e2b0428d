# kind: none
import packer
from pace import ticks


def label(number):
    text = "row %06d " % number + "x" * 489
    return packer.name_row_freed(text)


for tick in ticks():
    labels = {label(tick * 100 + number) for number in range(100)}
