"""A benchmark of pyperformance, as that package has it, in a fixed number of loops:

    performance.py LOOPS NAME [ARGUMENT…]

Its own runner starts processes and calibrates; what stands in for it here calls
the benchmark's function, and that is all.
"""

import argparse
import runpy
import sys
import time
import types
from importlib.util import find_spec
from pathlib import Path


class Runner:
    """As much of pyperf.Runner as the benchmarks use."""

    loops = 1

    def __init__(self, *_, **__):
        self.argparser = argparse.ArgumentParser()
        self.metadata = {}
        self.args = None

    def parse_args(self, args=None):
        self.args = self.argparser.parse_args(args)
        return self.args

    def bench_func(self, name, function, *args, **_):
        for _ in range(self.loops):
            function(*args)

    def bench_time_func(self, name, function, *args, **_):
        function(self.loops, *args)


def main(loops, name, arguments):
    Runner.loops = loops
    pyperf = types.ModuleType("pyperf")
    pyperf.Runner = Runner
    pyperf.perf_counter = time.perf_counter
    pyperf.python_implementation = lambda: sys.implementation.name
    sys.modules["pyperf"] = pyperf
    # Found, not imported: the package itself brings much that the benchmark does not need.
    package = Path(find_spec("pyperformance").origin).parent
    script = package / "data-files" / "benchmarks" / f"bm_{name}" / "run_benchmark.py"
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
