# kind: none
import ctypes

from pace import ticks

incref = ctypes.pythonapi.Py_IncRef
decref = ctypes.pythonapi.Py_DecRef
incref.argtypes = decref.argtypes = [ctypes.py_object]


class Session:
    def __init__(self, number):
        self.token = b"%06d" % number * 500


def login(number):
    session = Session(number)
    incref(session)
    decref(session)


for tick in ticks():
    for number in range(16):
        login(number)
