"""Generators, comprehensions, context managers."""
import contextlib

from kinds import keep, shape, size


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
