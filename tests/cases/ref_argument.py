# The caller's object, of which the callee kept a reference.
# kind: reference-leak
# type: bytearray
# tick: 48000
import fields
from pace import ticks


def send(number):
    row = bytearray(b"#" * (2999 + number % 2))  # LEAK
    try:
        return fields.check(row, True)
    except ValueError:
        return False


for tick in ticks():
    for number in range(32):
        send(number)
