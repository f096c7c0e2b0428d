"""All runs, interleaved, and the figures that follow from them."""

from __future__ import annotations

import statistics
import time

from catalog import START_UP, SURVIVORS
from environment import say
from runs import Failure, Sample, run

HUNG_S = 240
QUICK_HUNG_S = 30
QUICK_ENDS_S = 285
# A mode that needs longer than this for a workload is run that often, not every round.
FEW_ROUNDS = ((8.0, 1), (2.5, 2))
QUICK_FEW_ROUNDS = ((1.0, 1),)


class Results:
    """Samples of each workload and mode by round, and what failed. A mode that
    failed once on a workload has failed there."""

    def __init__(self, workloads):
        #: What each workload's CPU time is net of.
        self.beginnings = {w.name: w.beginning.name for w in workloads if w.beginning}
        self.samples = {}
        self.failures = {}
        self.reports = {}

    def add(self, workload, mode, number, outcome):
        if isinstance(outcome, Failure):
            self.failures[workload, mode] = outcome
        else:
            self.samples.setdefault((workload, mode), {})[number] = outcome

    def failed(self, workload, mode):
        """Nothing can be said of a mode without its start-up or its bare twin."""
        start = self.beginning_of(workload)
        for key in [(workload, mode), (start, mode), (workload, "bare"), (start, "bare")]:
            if key in self.failures:
                return self.failures[key]
        return None

    def beginning_of(self, workload):
        return self.beginnings.get(workload, START_UP.name)

    def of(self, workload, mode):
        return list(self.samples.get((workload, mode), {}).values())

    def rounds(self, workload, mode):
        """This mode's samples, each with the bare one of its round, and the start-up
        of both: of the same round, or what it is mostly."""
        if self.failed(workload, mode):
            return
        bare = self.samples.get((workload, "bare"), {})
        for number, sample in self.samples.get((workload, mode), {}).items():
            if number in bare:
                starts = (self.start(workload, name, number) for name in (mode, "bare"))
                yield sample, bare[number], *starts

    def start(self, workload, mode, number):
        samples = self.samples[self.beginning_of(workload), mode]
        return samples.get(number) or median_sample(list(samples.values()))

    def each(self, workload, mode, figure):
        """`figure` of each round, without those that have none."""
        values = [figure(*samples) for samples in self.rounds(workload, mode)]
        return [value for value in values if value is not None]

    def ratios(self, workload, mode, what="cpu_s"):
        def ratio(sample, twin, start, twin_start):
            mine = getattr(sample, what) - getattr(start, what)
            bare = getattr(twin, what) - getattr(twin_start, what)
            return mine / bare if bare > 0 else None

        return self.each(workload, mode, ratio)

    def added(self, workload, mode, what):
        """More than bare, start-up included."""
        return self.each(
            workload, mode, lambda mine, bare, *_: getattr(mine, what) - getattr(bare, what)
        )

    def bytes_a_block(self, mode, blocks):
        def one(mine, bare, start, bare_start):
            extra = mine.max_rss - bare.max_rss
            return (extra - (start.max_rss - bare_start.max_rss)) / blocks

        return self.each(SURVIVORS, mode, one)

    def against(self, workload, peer):
        """pyshim exact's CPU time net of start-up as a ratio to a peer's, in each round
        that has both; of start-up itself, all of it."""
        if self.failed(workload, "exact") or self.failed(workload, peer):
            return []
        mine = self.samples.get((workload, "exact"), {})
        values = []
        for number, theirs in self.samples.get((workload, peer), {}).items():
            if number not in mine:
                continue
            over, under = mine[number].cpu_s, theirs.cpu_s
            if workload in self.beginnings:
                over -= self.start(workload, "exact", number).cpu_s
                under -= self.start(workload, peer, number).cpu_s
            if under > 0:
                values.append(over / under)
        return values


def median_sample(samples):
    return Sample(
        *(statistics.median(getattr(s, name) for s in samples) for name in Sample.__annotations__)
    )


class Bench:
    """Runs everything that was chosen."""

    def __init__(self, options, kit, modes, workloads, scratch):
        self.options, self.kit, self.modes, self.workloads = options, kit, modes, workloads
        self.scratch = scratch
        self.results = Results(workloads)
        self.notes = []

    def measure(self):
        """Round for round, workload for workload, mode after mode. Returns the
        number of rounds; in quick runs the last may be cut short."""
        took = {}
        self.work(START_UP, 0)  # Fills the caches; not counted, but for failures.
        for number in range(1, self.options.rounds + 1):
            for workload in [START_UP, *self.workloads]:
                begin = time.monotonic()
                # What was not run yet takes as long as the longest so far.
                expected = took.get(workload.name, max(took.values(), default=0))
                if self.too_late(begin + expected):
                    note = f"5 minutes were over in round {number}, before {workload.name}"
                    self.notes.append(note)
                    self.leave_out_unmeasured()
                    return number
                if workload.beginning not in (None, START_UP):
                    self.work(workload.beginning, number)
                self.work(workload, number)
                took[workload.name] = time.monotonic() - begin
        return self.options.rounds

    def too_late(self, when):
        return self.options.quick and when > self.options.began + QUICK_ENDS_S

    def leave_out_unmeasured(self):
        left = [w for w in self.workloads if not self.results.of(w.name, "bare")]
        self.workloads = [w for w in self.workloads if w not in left]
        if left:
            names = ", ".join(w.name for w in left)
            self.notes.append(f"not measured for want of time: {names}")

    def work(self, workload, number):
        modes = [mode for mode in self.modes if self.wanted(workload, mode, number)]
        outcomes = {mode.name: [] for mode in modes}
        for turn in range(workload.times):
            for mode in modes:
                reports = number == 1 and turn == 0 and mode.reported and workload.beginning
                outcomes[mode.name].append(self.run(mode, workload, reports))
        for name, all_of_it in outcomes.items():
            failures = [outcome for outcome in all_of_it if isinstance(outcome, Failure)]
            if failures or number > 0:
                outcome = failures[0] if failures else median_sample(all_of_it)
                self.results.add(workload.name, name, number, outcome)
        if number > 0:
            self.progress(workload, modes, number)

    def wanted(self, workload, mode, number):
        """Whether the mode is run on it in this round."""
        if self.results.failed(workload.name, mode.name):
            return False
        samples = self.results.of(workload.name, mode.name)
        longest = max((sample.wall_s for sample in samples), default=0)
        limits = QUICK_FEW_ROUNDS if self.options.quick else FEW_ROUNDS
        return all(longest <= limit or number <= rounds for limit, rounds in limits)

    def run(self, mode, workload, reports):
        limit = QUICK_HUNG_S if self.options.quick else HUNG_S
        program = workload.command(self.options.quick)
        outcome, made = run(self.kit, mode, program, self.scratch, limit, reports)
        for name, report in made:
            self.results.reports[workload.name, mode.name, name] = report
        return outcome

    def progress(self, workload, modes, number):
        parts = []
        for mode in modes:
            failure = self.results.failed(workload.name, mode.name)
            samples = self.results.of(workload.name, mode.name)
            parts.append(f"{mode.name} {'failed' if failure else f'{samples[-1].cpu_s:.2f}'}")
        head = f"round {number}/{self.options.rounds}  {workload.name}"
        say(f"{head} (CPU s): {', '.join(parts)}")
