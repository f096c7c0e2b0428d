# Each request imports its plugin under a name of its own.
# kind: python-held
# holder: sys.modules
# tick: 150000
import sys
import types

from pace import ticks

SOURCE = """
DATA = list(range(5000, 6000))

def run(x):
    return DATA[x]
"""


def plugin(number):
    module = types.ModuleType("plugin_%d" % number)
    sys.modules[module.__name__] = module
    exec(compile(SOURCE, module.__name__ + ".py", "exec"), module.__dict__)  # LEAK
    module.SCRATCH = b"%06d" % number * 1200  # LEAK
    result = module.run(7)
    return result


for tick in ticks(25):
    for number in range(4):
        plugin(tick * 4 + number)
