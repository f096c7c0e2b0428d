# kind: none
from pace import ticks

TABLE = [{"id": number, "text": "row %d " % number * 20} for number in range(60000)]

found = 0
for tick in ticks():
    found += len(TABLE[tick % len(TABLE)]["text"])
