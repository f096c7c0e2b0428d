"""Code that C calls back."""
import ctypes
import functools
import json
import os
import re
import signal
import sys

from kinds import keep, shape, size


@shape
def callbacks():
    def key(item):
        keep("key of sorted", bytes(size()))
        return item

    def replace(match):
        keep("replacement of re.sub", bytes(size()))
        return ""

    def hook(pairs):
        keep("hook of json", bytes(size()))
        return pairs

    def add(a, b):
        return keep("function of reduce", bytes(size()))

    def default(thing):
        keep("default of json", bytes(size()))
        return None

    class Missing(dict):
        def __missing__(self, name):
            return keep("__missing__", bytes(size()))

    sorted([1], key=key)
    max([1, 2][:1], key=lambda one: keep("key of max", bytes(size())))
    re.sub("x", replace, "axb")
    json.loads('{"a": 1}', object_pairs_hook=hook)
    json.dumps({"a": object()}, default=default)
    functools.reduce(add, [1, 2])
    functools.partial(keep, "partial call")(bytes(size()))
    list(map(lambda one: keep("function of map", bytes(size())), [1]))
    list(filter(lambda one: keep("function of filter", bytes(size())), [1]))
    Missing()["x"]
    "%(name)s" % Missing()
    list(iter(lambda: keep("function of iter", bytes(size())), 0))


@shape
def through_ctypes():
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))

    def compare(a, b):
        return keep("comparison of C's qsort", bytes(size()))

    two = (ctypes.c_int * 2)(2, 1)
    ctypes.CDLL(None).qsort(two, 2, ctypes.sizeof(ctypes.c_int), kind(compare))

    # Python, C, Python, C, Python.
    def nested(a, b):
        sorted([1], key=lambda one: keep("key of sorted in C's qsort", bytes(size())))
        return 0

    ctypes.CDLL(None).qsort(two, 2, ctypes.sizeof(ctypes.c_int), kind(nested))


@shape
def signals():
    def handler(number, frame):
        keep("signal handler", bytes(size()))

    before = signal.signal(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(100):
        pass
    signal.signal(signal.SIGUSR1, before)


@shape
def traced():
    def profile(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "watched":
            sys.setprofile(None)
            keep("profile function", bytes(size()))

    def watched():
        pass

    sys.setprofile(profile)
    watched()
    sys.setprofile(None)
