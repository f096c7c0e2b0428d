# kind: none
import fields
from pace import ticks


class Lazy:
    @property
    def value(self):
        return b"v" * self.length()

    def length(self):
        return 3000


lazy = Lazy()
for tick in ticks():
    for _ in range(16):
        fields.attribute_size(lazy, False)
