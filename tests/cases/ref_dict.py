# kind: reference-leak
# type: dict
# native: record
# tick: 47000
import fields
from pace import ticks


def record():
    return fields.record(True)  # LEAK


for tick in ticks():
    for _ in range(40):
        assert len(record()) == 1
