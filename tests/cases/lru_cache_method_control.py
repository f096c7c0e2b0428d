# kind: none
import functools

from pace import ticks


class App:
    def __init__(self, name):
        self.name = name

    @functools.lru_cache(maxsize=200)
    def load(self, number):
        return b"%06d" % number * 500


def main():
    app = App("shop")
    for tick in ticks():
        for number in range(16):
            app.load(tick * 16 + number)


main()
