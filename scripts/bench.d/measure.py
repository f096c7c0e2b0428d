"""All runs, interleaved, and the figures that follow from them."""

from __future__ import annotations

import statistics
import time

from beside import Beside
from catalog import START_UP, SURVIVORS
from environment import say
from runs import Failure, run

HUNG_S = 240
QUICK_HUNG_S = 30
QUICK_ENDS_S = 285
# A mode that needs longer than this for a workload is run that often, not every round.
FEW_ROUNDS = ((2.5, 1),)
QUICK_FEW_ROUNDS = ((1.0, 1),)
# Side by side one run of a slow peer tells its ratio; one that is slower still has a ratio that needs no such care.
FEW_PAIRS = ((4.0, 0), (2.0, 1))
# Rounds in which each run has the machine for itself: for elapsed time, memory, and what is left.
ALONE = 2


class Results:
    """Samples of each workload and mode by round, and what failed. A mode that
    failed once on a workload has failed there."""

    def __init__(self, workloads):
        #: What each workload's CPU time is net of.
        self.beginnings = {w.name: w.beginning.name for w in workloads if w.beginning}
        self.samples = {}
        #: CPU times of runs side by side with bare ones, in the same way.
        self.pairs = {}
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
        return samples.get(number) or median(list(samples.values()))

    def each(self, workload, mode, figure):
        """`figure` of each round, without those that have none."""
        values = [figure(*samples) for samples in self.rounds(workload, mode)]
        return [value for value in values if value is not None]

    def paired(self, workload, mode):
        """Each round's pair of runs side by side, by its number, and that of their start-up, of the same
        round or what it is mostly. Nothing where a workload has not been run so."""
        start = self.pairs.get((self.beginning_of(workload), mode))
        pairs = self.pairs.get((workload, mode), {})
        if not start or self.failed(workload, mode):
            return {}
        mostly = median(list(start.values()))
        return {number: (pair, start.get(number, mostly)) for number, pair in pairs.items()}

    def ratios(self, workload, mode, what="cpu_s"):
        """To bare, net of start-up: of CPU time, where there are runs side by side, by these."""
        if what == "cpu_s" and (paired := self.paired(workload, mode)):
            # (Of what takes no longer than its start-up there is no ratio.)
            return [ratio for ratio in net_ratios(paired).values() if ratio > 0]

        def ratio(sample, twin, start, twin_start):
            mine = getattr(sample, what) - getattr(start, what)
            bare = getattr(twin, what) - getattr(twin_start, what)
            return mine / bare if bare > 0 else None

        return self.each(workload, mode, ratio)

    def added(self, workload, mode, what):
        """More than bare, start-up included."""
        if what == "cpu_s" and (paired := self.paired(workload, mode)):
            return [pair.cpu_s - pair.bare_s for pair, _ in paired.values()]
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
        is_net = workload in self.beginnings
        mine, theirs = (self.paired(workload, mode) for mode in ("exact", peer))
        if mine and theirs:
            mine, theirs = (net_ratios(paired, is_net) for paired in (mine, theirs))
            # (A slow peer has fewer rounds; what there is of it counts.)
            return [mine[n] / theirs[n] for n in theirs if n in mine and theirs[n] > 0]
        mine = self.samples.get((workload, "exact"), {})
        values = []
        for number, theirs in self.samples.get((workload, peer), {}).items():
            if number not in mine:
                continue
            over, under = mine[number].cpu_s, theirs.cpu_s
            if is_net:
                over -= self.start(workload, "exact", number).cpu_s
                under -= self.start(workload, peer, number).cpu_s
            if under > 0:
                values.append(over / under)
        return values


def net_ratios(paired, is_net=True):
    """A mode's CPU time to bare's, by the number of the round; `is_net` of start-up."""
    ratios = {}
    for number, (pair, start) in paired.items():
        mine, bare = pair.cpu_s, pair.bare_s
        if is_net:
            mine, bare = mine - start.cpu_s, bare - start.bare_s
        if bare > 0:
            ratios[number] = mine / bare
    return ratios


def median(records):
    """Field for field."""
    kind = type(records[0])
    return kind(*(statistics.median(getattr(it, name) for it in records) for name in kind.__annotations__))


class Bench:
    """Runs everything that was chosen."""

    def __init__(self, options, kit, modes, workloads, scratch):
        self.options, self.kit, self.modes, self.workloads = options, kit, modes, workloads
        self.scratch = scratch
        self.results = Results(workloads)
        self.notes = []

    def measure(self):
        """First rounds in which each run has the machine for itself, workload for workload, mode after
        mode, then all side by side with bare ones. Returns the number of rounds; a quick run has one,
        of which each workload is run both ways before the next, and may be cut short."""
        self.work(START_UP, 0)  # Fills the caches; not counted, but for failures.
        beside = Beside(self)
        if self.options.quick:
            self.quick(beside)
            return 1
        for number in range(1, self.options.rounds + 1):
            for workload in self.everything():
                if number <= ALONE or workload.parallel:
                    self.work(workload, number)
        beside.measure(self.everything(), self.options.rounds)
        return self.options.rounds

    def quick(self, beside):
        longest = 0
        for workload in self.everything():
            begin = time.monotonic()
            # What was not run yet takes as long as the longest so far.
            if self.is_late(longest):
                self.notes.append(f"5 minutes were over before {workload.name}")
                self.leave_out_unmeasured()
                return
            self.work(workload, 1)
            beside.measure([workload], 1)
            longest = max(longest, time.monotonic() - begin)

    def everything(self):
        """What is run: each workload after its beginning."""
        yield START_UP
        for workload in self.workloads:
            if workload.beginning not in (None, START_UP):
                yield workload.beginning
            yield workload

    def is_late(self, expected):
        """Whether something that takes so long would end too late."""
        return time.monotonic() + expected > self.options.began + QUICK_ENDS_S

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
                outcome = failures[0] if failures else median(all_of_it)
                self.results.add(workload.name, name, number, outcome)
        if number > 0:
            self.progress(workload, modes, number)

    def wanted(self, workload, mode, number, beside=False):
        """Whether the mode is run on it in this round, alone or side by side."""
        if self.results.failed(workload.name, mode.name):
            return False
        samples = self.results.of(workload.name, mode.name)
        longest = max((sample.wall_s for sample in samples), default=0)
        if beside and not mode.is_peer:
            return True
        if beside and not workload.beginning and number > 1:
            return False
        limits = FEW_PAIRS if beside else FEW_ROUNDS
        limits = QUICK_FEW_ROUNDS if self.options.quick else limits
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
        head = f"alone {number}  {workload.name}"
        say(f"{head} (CPU s): {', '.join(parts)}")
