"""Decorators."""
import functools

from kinds import keep, shape, size


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
