# https://github.com/Marco-Sulla/python-frozendict/issues/59
# kind: reference-leak
# python: 3.9
import frozendict
from pace import ticks


def describe(number):
    settings = frozendict.frozendict({number + at: at for at in range(60)})
    return repr(settings)  # LEAK


for tick in ticks():
    for number in range(30):
        assert describe(tick * 30 + number).startswith("frozendict")
