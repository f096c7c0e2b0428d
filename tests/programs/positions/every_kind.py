"""Keeps one block of a size of its own from each kind of code, and says where.

Each line of stdout is a JSON object: kind, size, and the Python stack as the
interpreter itself tells it, innermost frame first: [file, line, function], and
the column of the innermost one (counted from one) where the source is known.
"""
import atexit
import json
import sys

sys.dont_write_bytecode = True

from kinds import KINDS, TOLD, keep, size, tell_columns  # noqa: E402


@atexit.register
def at_the_end():
    keep("atexit", bytes(size()))
    for one in TOLD:
        print(json.dumps(one))


from kinds import (  # noqa: E402, F401
    plain,
    classes,
    decorators,
    generators,
    coroutines,
    compiled,
    called_back,
    threads,
)

tell_columns(__file__)
keep("module", bytes(size()))
for one in KINDS:
    one()
