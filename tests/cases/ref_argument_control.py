# kind: none
# The caller's object, of which the callee kept a reference.
import fields
from pace import ticks


def send(number):
    row = bytearray(b"#" * (2999 + number % 2))
    try:
        return fields.check(row, False)
    except ValueError:
        return False


for tick in ticks():
    for number in range(32):
        send(number)
