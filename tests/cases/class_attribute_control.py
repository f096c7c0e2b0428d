# kind: none
from pace import ticks


class Registry:
    entries = []

    def register(self, number):
        self.entries.append(bytearray(b"%d," % number * 150))
        del self.entries[:-200]


def main():
    for tick in ticks():
        for number in range(60):
            Registry().register(tick * 60 + number)


main()
