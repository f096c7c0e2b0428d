"""Sub-interpreters that run, keep blocks, and are there at the end or are not.

Prints for each block that a living one keeps: size and function."""
import json
import sys
import threading

try:
    import _interpreters as interpreters
except ImportError:
    try:
        import _interpxxsubinterpreters as interpreters
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            sys.exit(0)

run = getattr(interpreters, "run_string", None) or interpreters.exec
SOURCE = """
kept = []
def inside_{number}():
    kept.append(bytes({size}))
    return [object() for _ in range(2000)]
def outer():
    more.append(inside_{number}())
more = []
outer()
"""


def use(number, size):
    made = interpreters.create()
    run(made, SOURCE.format(number=number, size=size))
    return made


def main():
    kept = [None] * 3
    living = [use(0, 900001)]
    kept[0] = bytes(800001)
    living += [use(1, 900033)]
    kept[1] = bytes(800033)
    living += [use(2, 900065)]
    kept[2] = bytes(800065)
    for number in range(3, 10):
        interpreters.destroy(use(number, 900001 + 32 * number))
    if sys.version_info >= (3, 9):
        threads = [threading.Thread(target=of_thread, args=(number,)) for number in range(10, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(3):
        print(json.dumps([900001 + 32 * number + 33, f"inside_{number}"]))
        print(json.dumps([800001 + 32 * number + 33, "main"]))
    return living, kept


def of_thread(number):
    interpreters.destroy(use(number, 900001 + 32 * number))


ALL = main()
sys.stdout.flush()
