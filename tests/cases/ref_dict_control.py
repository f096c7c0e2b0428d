# kind: none
import fields
from pace import ticks


def record():
    return fields.record(False)


for tick in ticks():
    for _ in range(40):
        assert len(record()) == 1
