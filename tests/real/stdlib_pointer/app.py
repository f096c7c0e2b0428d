# https://github.com/python/cpython/issues/44425
# kind: python-held
# holder: _pointer_type_cache
# python: 3.11.7
# fixed-python: 3.14
import ctypes

from pace import ticks


def record(number):
    fields = [("f%d" % at, ctypes.c_int) for at in range(8)]
    kind = type("Record%d" % number, (ctypes.Structure,), {"_fields_": fields})  # LEAK
    return ctypes.POINTER(kind)  # LEAK


for tick in ticks(50):
    for number in range(8):
        record(tick * 8 + number)
