"""How long one malloc and free take, and how they scale over threads.

latency.c is the program; it has no Python in it, so pyshim is told to record it
all the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from environment import say
from modes import MODES
from runs import Failure, measured

SOURCE = Path(__file__).resolve().parent / "latency.c"
PAIRS_THREADS = (1, 2, 4, 8)
RATE_THREADS = (1, 2, 4)
ONE_THREADS = (2, 4, 8)
# Those that see a call of malloc at all, and see it without Python.
NAMES = ("bare", "exact", "sampled", "jemalloc", "heaptrack")


class Latency:
    """Figures of each mode and number of threads, a list with one a round."""

    def __init__(self, options, kit, modes, scratch):
        self.kit, self.scratch = kit, Path(scratch)
        self.names = [mode.name for mode in modes if mode.name in NAMES]
        self.rounds = 3 if options.quick else 7
        self.count = 100_000 if options.quick else 400_000
        self.pairs, self.rates, self.at_one, self.failures = {}, {}, {}, {}
        self.note = ""

    def measure(self):
        program = self.scratch / "latency"
        if not shutil.which("cc"):
            self.note = "latency of malloc: there is no C compiler (cc)"
            return
        command = ["cc", "-O2", "-pthread", "-o", str(program), str(SOURCE)]
        if subprocess.run(command).returncode != 0:
            self.note = "latency of malloc: its program does not compile"
            return
        for number in range(self.rounds):
            for what, kept, threads in (
                ("pairs", self.pairs, PAIRS_THREADS),
                ("rate", self.rates, RATE_THREADS),
                ("one", self.at_one, ONE_THREADS),
            ):
                for count in threads:
                    for name in self.names:
                        self.run(str(program), what, kept, name, count)
            say(f"latency: round {number + 1}/{self.rounds}")

    def run(self, program, what, kept, name, threads):
        if name in self.failures:
            return
        # A single round of heaptrack takes as long as all others. Of its rate nothing can be
        # said: how long loops wait for the program that reads what it records varies too much.
        if name == "heaptrack" and (what != "pairs" or kept.get((name, threads))):
            return
        mode = next(mode for mode in MODES if mode.name == name)
        # Scaling is told by the elapsed time of short loops: make them longer.
        count = self.count * (1 if what == "pairs" else 10)
        out = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            command = [program, what, str(threads), str(count)]
            if name == "heaptrack":
                command = [self.kit.heaptrack, "-o", f"{out}/heaptrack", *command]
            variables = {**mode.variables(self.kit, out), "PYSHIM_FOLLOW": "all"}
            outcome, printed = measured(command, variables, out, 60)
            if isinstance(outcome, Failure):
                self.failures[name] = outcome
                return
            dumps = list(out.glob("*.dump"))
            if name in ("exact", "sampled") and not dumps:
                self.failures[name] = Failure("left no output")
                return
            line = next(line for line in printed.splitlines() if line.startswith("{"))
            kept.setdefault((name, threads), []).append(json.loads(line))
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def percentiles(self, name, threads, which):
        return [one[which] for one in self.pairs.get((name, threads), [])]

    def ratios(self, name, threads, which):
        """To bare, round by round."""
        mine, bare = (self.percentiles(it, threads, which) for it in (name, "bare"))
        return [a / b for a, b in zip(mine, bare) if b > 0]

    def rate(self, name, threads, at_one=False):
        """Pairs a second, each thread at a site of its own or all of them at one."""
        kept = self.at_one if at_one else self.rates
        return [one["pairs_per_second"] for one in kept.get((name, threads), [])]

    def scaling(self, name, threads, at_one=False):
        """Pairs a second of so many threads to those of one."""
        many = self.rate(name, threads, at_one)
        return [many / one for many, one in zip(many, self.rate(name, 1))]

    def kept_scaling(self, name, threads):
        """The part of bare's scaling that is left."""
        pairs = zip(self.scaling(name, threads), self.scaling("bare", threads))
        return [mine / bare for mine, bare in pairs if bare > 0]

    def json(self):
        return {
            "pairs_ns": {f"{name} {n}": values for (name, n), values in self.pairs.items()},
            "rates": {f"{name} {n}": values for (name, n), values in self.rates.items()},
            "rates_at_one_site": {f"{name} {n}": values for (name, n), values in self.at_one.items()},
            "failed": {name: failure.reason for name, failure in self.failures.items()},
        }

