"""The programs that are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

BEGIN_AND_END = ", begin and end"
SCRIPTS = Path(__file__).resolve().parent / "workloads"


@dataclass(frozen=True)
class Workload:
    """A script of workloads/. Its first argument is its size; with `full` it keeps
    the bare interpreter busy for some half a second, with 0 it begins, imports what
    it needs, and ends."""

    name: str
    script: str
    full: int = 0
    quick: int = 0
    more: tuple = ()
    #: Packages that it imports.
    needs: tuple = ()
    #: It imports enough for its own begin and end to be measured.
    imports: bool = False
    #: Short ones are run that often a round; the median counts.
    times: int = 1
    #: Its threads run at once, so it is not put on one processor.
    parallel: bool = False

    @property
    def beginning(self):
        """What its CPU time is net of: an interpreter that starts, or one that also
        imports what this one does."""
        if self is START_UP or self.name.endswith(BEGIN_AND_END):
            return None
        if not self.imports:
            return START_UP
        name = self.name + BEGIN_AND_END
        return replace(self, name=name, full=0, quick=0, times=2)

    def command(self, quick):
        return [str(SCRIPTS / self.script), str(self.size(quick)), *self.more]

    def size(self, quick):
        return self.quick if quick else self.full


def performance(name, full, quick, *more):
    """A benchmark of pyperformance, with its number of loops."""
    return Workload(name, "performance.py", full, quick, (name, *more), ("pyperformance",), True)


START_UP = Workload("start-up", "nothing.py", times=3)
SURVIVORS = "survivors"

# Those that pyshim's targets name come first: a quick run that ends early has them.
WORKLOADS = [
    Workload("call-heavy", "call-heavy.py", 450, 90),
    Workload("churn", "churn.py", 300_000, 60_000),
    performance("json_loads", 900, 180),
    Workload("numpy", "arrays.py", 1000, 250, needs=("numpy",), imports=True),
    Workload("threads", "threads.py", 90, 20, imports=True, times=3, parallel=True),
    Workload("deep", "deep.py", 100, 20),
    Workload("survivors", "survivors.py", 1_000_000, 250_000),
    Workload("growth", "growth.py", 150_000, 30_000),
    Workload("web", "web.py", 220, 44, needs=("flask",), imports=True),
    Workload("parsers", "parsers.py", 150, 30, needs=("lxml",), imports=True),
    Workload("churn-survivors", "churn.py", 250_000, 50_000, ("8",)),
    Workload("json", "json-nested.py", 650, 130, imports=True),
    Workload("import-numpy", "import-numpy.py", needs=("numpy",), times=3),
    performance("json_dumps", 60, 12),
    performance("pickle", 2600, 520, "pickle"),
    performance("regex_compile", 5, 1),
    performance("deltablue", 150, 30),
    performance("go", 6, 1),
    performance("logging", 10_000, 2_000, "format"),
    performance("chaos", 10, 2),
]
