"""Plain code."""
import contextlib

from kinds import keep, shape, size


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
