# kind: reference-leak
# type: Session
# tick: 48000
import ctypes

from pace import ticks

incref = ctypes.pythonapi.Py_IncRef
decref = ctypes.pythonapi.Py_DecRef
incref.argtypes = decref.argtypes = [ctypes.py_object]


class Session:
    def __init__(self, number):
        self.token = b"%06d" % number * 500  # LEAK


def login(number):
    session = Session(number)  # LEAK
    incref(session)


for tick in ticks():
    for number in range(16):
        login(number)
