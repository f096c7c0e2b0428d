# References to what there is only one of, counted up without end.
# kind: none
import fields
from pace import ticks

for tick in ticks():
    for _ in range(200):
        assert fields.no_and_yes() is None
