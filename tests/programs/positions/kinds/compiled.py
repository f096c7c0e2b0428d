"""Code that is compiled at run time."""
import sys

from kinds import SOURCE, keep, shape, size


def at_run_time(source, file, mode="exec"):
    SOURCE[file] = source.splitlines()
    return compile(source, file, mode)


@shape
def executed():
    exec(at_run_time("\n\nkeep('exec', bytes(size()))\n", "/no/such/executed.py"), globals())
    source = "def made():\n    x = 1\n    keep('function made by exec', bytes(size()))\nmade()\n"
    exec(at_run_time(source, "<made>"), dict(globals()))
    source = "def wide():\n    keep('file with a wide name', bytes(size()))\nwide()\n"
    exec(at_run_time(source, "ä€😀.py"), dict(globals()))
    source = "def größe():\n    keep('function with a wide name', bytes(size()))\ngröße()\n"
    exec(at_run_time(source, "<größe>"), dict(globals()))


@shape
def far_apart():
    """Line tables have to go a long way, on and back."""
    far = "\n" * 700
    source = f"def far():\n    a = 1{far}\n    keep('far on', bytes(size()))\nfar()\n"
    exec(at_run_time(source, "<far on>"), globals())
    source = f"def far():\n    a = [{far}len(''),\nkeep('far back', bytes(size()))]\nfar()\n"
    exec(at_run_time(source, "<far back>"), globals())
    wide = "x = 1; " * 200
    source = f"def far():\n    {wide}keep('far to the right', bytes(size()))\nfar()\n"
    exec(at_run_time(source, "<far to the right>"), globals())
    source = "def far():\n" + "    x = 1\n" * 3000 + "    keep('many instructions on', bytes(size()))\nfar()\n"
    exec(at_run_time(source, "<many instructions on>"), globals())


@shape
def evaluated():
    eval(at_run_time("keep('eval', bytes(size()))", "<evaluated>", "eval"))
    eval("keep('eval of a text', bytes(size()))")


@shape
def matched():
    if sys.version_info < (3, 10):
        return
    source = """
def matching(what):
    match what:
        case {"a": int()}:
            keep("match", bytes(size()))
matching({"a": 1})
"""
    exec(at_run_time(source, "<match>"), dict(globals()))
