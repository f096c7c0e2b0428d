"""Objects that the interpreter takes from its free lists: one line makes one and
drops it, another takes its place and keeps it. All that is kept is the latter's."""
COUNT = 5000
KEPT = [None] * (4 * COUNT)


def scratch_list():
    return len([[], []])


def keep_list(at):
    KEPT[at] = []


def scratch_tuple(one):
    return len([(one, one), (one, one)])


def keep_tuple(at, one):
    KEPT[at] = (one, one)


def scratch_dict():
    return len([{}, {}])


def keep_dict(at):
    KEPT[at] = {}


def scratch_float(one):
    return one * 1.5 + one * 2.5


def keep_float(at, one):
    KEPT[at] = one * 3.5


def main():
    one = float(len(KEPT))
    for number in range(COUNT):
        scratch_list()
        keep_list(number)
        scratch_tuple(one)
        keep_tuple(COUNT + number, one)
        scratch_dict()
        keep_dict(2 * COUNT + number)
        scratch_float(one)
        keep_float(3 * COUNT + number, one)


main()
