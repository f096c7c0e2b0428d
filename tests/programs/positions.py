"""Keeps one block of a size of its own from each kind of code, and says where.

Each line of stdout is a JSON object: kind, size, and the Python stack as the
interpreter itself tells it, innermost frame first: [file, line, function], and
the column of the innermost one (counted from one) where the source is known.
"""
import asyncio
import atexit
import contextlib
import ctypes
import dataclasses
import functools
import gc
import json
import os
import re
import signal
import sys
import threading
import weakref

HERE = __file__
KEPT = [None] * 4000
TOLD = []
SOURCE = {HERE: open(HERE, encoding="utf-8").read().splitlines()}
COUNT = 0


def size():
    """A size that nothing else has."""
    return 1000003 + 48 * (COUNT + 1)


def keep(kind, block, line=None):
    """To be called on the line that allocates `block`, or else `line` after it."""
    global COUNT
    KEPT[COUNT] = block
    COUNT += 1
    stack = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        stack.append([code.co_filename, frame.f_lineno, name])
        frame = frame.f_back
    if line is not None:
        stack[0][1] += line
    column = None
    if stack[0][0] in SOURCE:
        text = SOURCE[stack[0][0]][stack[0][1] - 1]
        column = len(text[: text.index("bytes(")].encode()) + 1
    TOLD.append({"kind": kind, "size": block.__sizeof__(), "stack": stack, "column": column})
    return 0


KINDS = []


def shape(function):
    KINDS.append(function)
    return function


# Plain code.


@shape
def function():
    keep("function", bytes(size()))


@shape
def several_statements_of_a_line():
    nothing = 1; keep("second statement of its line", bytes(size())); nothing = 2


@shape
def long_expression():
    total = (
        0
        + keep("within a long expression", bytes(size()))
        + 0
    )
    return total


@shape
def arguments_on_lines():
    keep(
        "argument on a line of its own",
        bytes(size()),
        line=2,
    )


@shape
def after_wide_characters():
    ä = "€😀"; keep("after wide characters", bytes(size())); del ä


@shape
def nested():
    outer = 7

    def inner():
        def innermost():
            keep("nested function", bytes(size() + outer - outer))

        innermost()

    inner()


@shape
def closure():
    def make(size):
        def call():
            keep("closure", bytes(size()))

        return call

    make(size)()


@shape
def lambda_():
    (lambda kind: keep(kind, bytes(size())))("lambda")


@shape
def default_argument():
    def takes(block=keep("default argument", bytes(size()))):
        return block

    takes()


@shape
def recursion():
    def down(depth):
        if depth == 0:
            keep("recursion", bytes(size()))
        else:
            down(depth - 1)

    down(50)


@shape
def deep_recursion():
    def down(depth):
        if depth == 0:
            keep("deep recursion", bytes(size()))
        else:
            down(depth - 1)

    down(700)


@shape
def backwards():
    for turn in range(2):
        if turn:
            keep("second turn of a loop", bytes(size()))
        else:
            continue


@shape
def handler():
    try:
        raise KeyError
    except KeyError:
        keep("except", bytes(size()))
    finally:
        keep("finally", bytes(size()))


@shape
def while_unwinding():
    with contextlib.suppress(ValueError):
        try:
            raise ValueError
        finally:
            keep("finally while an exception passes", bytes(size()))


# Classes.


@shape
def class_body():
    class Body:
        keep("class body", bytes(size()))

        class Inner:
            keep("body of an inner class", bytes(size()))


@shape
def methods():
    class Parent:
        def __init_subclass__(cls, **options):
            keep("__init_subclass__", bytes(size()))

    class Shape(Parent):
        def __init__(self):
            keep("__init__", bytes(size()))

        def method(self):
            keep("method", bytes(size()))

        @classmethod
        def of_class(cls):
            keep("class method", bytes(size()))

        @staticmethod
        def static():
            keep("static method", bytes(size()))

        @property
        def property(self):
            return keep("property", bytes(size()))

        def __getattr__(self, name):
            return keep("__getattr__", bytes(size()))

        def __getitem__(self, index):
            return keep("__getitem__", bytes(size()))

        def __hash__(self):
            return keep("__hash__", bytes(size()))

        def __eq__(self, other):
            keep("__eq__", bytes(size()))
            return False

        def __lt__(self, other):
            keep("__lt__", bytes(size()))
            return False

        def __add__(self, other):
            return keep("__add__", bytes(size()))

        def __str__(self):
            keep("__str__", bytes(size()))
            return ""

        def __format__(self, spec):
            keep("__format__", bytes(size()))
            return ""

        def __call__(self):
            keep("__call__", bytes(size()))

        def __iter__(self):
            keep("__iter__", bytes(size()))
            return iter(())

        def __bool__(self):
            keep("__bool__", bytes(size()))
            return True

    one = Shape()
    one.method()
    Shape.of_class()
    Shape.static()
    one.property
    one.unknown
    one[0]
    hash(one)
    one in [0]
    sorted([one, one])
    one + 1
    str(one)
    f"{one:x}"
    one()
    list(one)
    not one


@shape
def metaclass():
    class Meta(type):
        def __new__(mcs, name, bases, body):
            keep("metaclass", bytes(size()))
            return super().__new__(mcs, name, bases, body)

        def __call__(cls):
            keep("call of a metaclass", bytes(size()))

    class OfIt(metaclass=Meta):
        pass

    OfIt()


@shape
def descriptor():
    class Descriptor:
        def __get__(self, instance, owner):
            keep("__get__", bytes(size()))

        def __set_name__(self, owner, name):
            keep("__set_name__", bytes(size()))

    class Owner:
        field = Descriptor()

    Owner().field


@shape
def made_by_dataclasses():
    def factory():
        keep("factory of a dataclass field", bytes(size()))

    @dataclasses.dataclass
    class Data:
        field: int = dataclasses.field(default_factory=factory)

    Data()


@shape
def deletion():
    class Deleted:
        def __del__(self):
            keep("__del__", bytes(size()))

    Deleted()


@shape
def collection():
    class Ring:
        def __del__(self):
            keep("__del__ by the collector", bytes(size()))

    ring = Ring()
    ring.ring = ring
    del ring
    gc.collect()


@shape
def weak_callback():
    def gone(reference):
        keep("weak reference's callback", bytes(size()))

    class Target:
        pass

    target = Target()
    reference = weakref.ref(target, gone)
    del target
    assert reference() is None


# Decorators.


@shape
def decorators():
    def decorator(function):
        keep("decorator", bytes(size()))

        @functools.wraps(function)
        def wrapper(*args):
            keep("decorated function's wrapper", bytes(size()))
            return function(*args)

        return wrapper

    @decorator
    def decorated():
        keep("decorated function", bytes(size()))

    decorated()


@shape
def caches():
    @functools.lru_cache(maxsize=None)
    def cached(key):
        return keep("function behind a cache", bytes(size()))

    cached(1)
    cached(1)


# Generators and comprehensions.


@shape
def generators():
    def generator():
        keep("generator", bytes(size()))
        yield 1
        keep("generator, resumed", bytes(size()))
        try:
            yield 2
        except KeyError:
            keep("generator, thrown into", bytes(size()))
        try:
            yield 3
        finally:
            keep("generator, closed", bytes(size()))

    def outer():
        yield from generator()

    made = generator()
    next(made), next(made)
    made.throw(KeyError())
    made.close()
    list(outer())


@shape
def generator_expression():
    sum(keep("generator expression", bytes(size())) for _ in (1,))


@shape
def comprehensions():
    [keep("list comprehension", bytes(size())) for _ in (1,)]
    {keep("set comprehension", bytes(size())) for _ in (1,)}
    {1: keep("dict comprehension", bytes(size())) for _ in (1,)}
    [[keep("comprehension in a comprehension", bytes(size())) for _ in (1,)] for _ in (1,)]
    [(lambda: keep("lambda in a comprehension", bytes(size())))() for _ in (1,)]


@shape
def context_managers():
    @contextlib.contextmanager
    def manager():
        keep("context manager, entered", bytes(size()))
        yield
        keep("context manager, left", bytes(size()))

    with manager():
        keep("with", bytes(size()))

    class Manager:
        def __enter__(self):
            keep("__enter__", bytes(size()))

        def __exit__(self, *what):
            keep("__exit__", bytes(size()))

    with Manager():
        pass


# Coroutines.


@shape
def coroutine():
    async def waits():
        keep("coroutine", bytes(size()))

    async def outer():
        await waits()

    with contextlib.suppress(StopIteration):
        outer().send(None)


@shape
def tasks():
    async def worker():
        keep("task", bytes(size()))
        await asyncio.sleep(0)
        keep("task, resumed", bytes(size()))

    async def other_worker():
        await asyncio.sleep(0)
        keep("another task", bytes(size()))

    async def numbers():
        keep("async generator", bytes(size()))
        yield 1
        await asyncio.sleep(0)
        keep("async generator, resumed", bytes(size()))

    class Manager:
        async def __aenter__(self):
            keep("__aenter__", bytes(size()))

        async def __aexit__(self, *what):
            keep("__aexit__", bytes(size()))

    def called_soon():
        keep("callback of the loop", bytes(size()))

    async def main():
        asyncio.get_running_loop().call_soon(called_soon)
        await asyncio.gather(worker(), other_worker())
        async for _ in numbers():
            pass
        [keep("async comprehension", bytes(size())) async for _ in numbers()]
        async with Manager():
            pass
        await asyncio.get_running_loop().run_in_executor(None, in_executor)

    def in_executor():
        keep("thread of the loop's executor", bytes(size()))

    asyncio.run(main())


# Compiled at run time.


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


# Called back by C.


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


# Threads.


@shape
def threads():
    def work():
        keep("thread", bytes(size()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    class Worker(threading.Thread):
        def run(self):
            keep("run of a thread", bytes(size()))

    worker = Worker()
    worker.start()
    worker.join()

    local = threading.local()

    def with_local():
        local.value = keep("thread with locals", bytes(size()))

    thread = threading.Thread(target=with_local, daemon=True)
    thread.start()
    thread.join()

    done = threading.Event()

    def on_time():
        keep("timer", bytes(size()))
        done.set()

    threading.Timer(0, on_time).start()
    done.wait()


@shape
def thread_of_c():
    """A thread that Python did not start calls into it."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "pthread_create"):
        libc = ctypes.CDLL("libpthread.so.0")

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def start(argument):
        keep("thread that C started", bytes(size()))

    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, start, None) == 0
    assert libc.pthread_join(thread, None) == 0


@shape
def greenlets():
    try:
        import greenlet
    except ImportError:
        return

    def other():
        keep("greenlet", bytes(size()))
        main.switch()
        keep("greenlet, switched back", bytes(size()))

    main = greenlet.getcurrent()
    child = greenlet.greenlet(other)
    child.switch()
    keep("between switches", bytes(size()))
    child.switch()
    keep("after a greenlet", bytes(size()))


@shape
def of_gevent():
    try:
        import gevent
        import gevent.pool
    except ImportError:
        return

    def work(number):
        keep("gevent", bytes(size()))
        gevent.sleep(0)
        keep("gevent, after a sleep", bytes(size()))

    gevent.pool.Pool(3).map(work, range(1))
    keep("after gevent", bytes(size()))


@atexit.register
def at_the_end():
    keep("atexit", bytes(size()))
    for one in TOLD:
        print(json.dumps(one))


if sys.version_info >= (3, 10):
    SOURCE["<match>"] = """
def matching(what):
    match what:
        case {"a": int()}:
            keep("match", bytes(size()))
matching({"a": 1})
""".splitlines()
    exec(compile("\n".join(SOURCE["<match>"]), "<match>", "exec"))

keep("module", bytes(size()))
for one in KINDS:
    one()
