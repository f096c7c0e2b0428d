"""A mode and the bare interpreter side by side on one processor.

A processor that a machine shares with others is a third faster or slower from one tenth of a second
to the next, so of two runs one after the other nobody can tell a few per cent. Two that take turns
on it every few hundredths of a second meet the same; their CPU times have a ratio that holds.
"""

from __future__ import annotations

import ctypes
import math
import os
import queue
import statistics
import struct
import threading
from dataclasses import dataclass
from functools import partial

from environment import say
from runs import Failure, end_all

# Runs of a mode go on until they would have taken so long alone: of pyshim's longest, since at both ends of a
# pair one of the two has the processor for itself; those that only begin and end, and quick runs, shorter.
LEAST_S, PEER_LEAST_S, SHORT_LEAST_S = 5.0, 1.5, 0.75
# What a program has in a processor's caches is not gone at every turn, and nobody's weather lasts less.
TURN_NS = 20_000_000
SCHED_SETATTR = 314


@dataclass
class Pair:
    """CPU seconds of a run in a mode, and of one in the bare interpreter beside it: means."""

    cpu_s: float
    bare_s: float


def settle_on(processor):
    """Has this thread, and what it starts, run on one processor, and take long turns there."""
    os.sched_setaffinity(0, {processor})
    # `struct sched_attr`: only the turn (`sched_runtime`) is not what it is anyway. Before Linux 6.12
    # it is not heeded: turns are three milliseconds then.
    attributes = struct.pack("=IIQiIQQQII", 56, 0, 0, os.nice(0), 0, TURN_NS, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(SCHED_SETATTR, 0, attributes, 0)


def side_by_side(runs, bare, times, processor):
    """Calls `runs` so many times, and `bare` again and again meanwhile, each of which measures one run:
    their pair, or the first failure."""
    over, twins = threading.Event(), []

    def beside():
        settle_on(processor)
        while not over.is_set():
            outcome = bare()
            # The last one had the processor for itself in the end.
            if not over.is_set() or not twins:
                twins.append(outcome)

    helper = threading.Thread(target=beside)
    helper.start()
    try:
        mine = []
        while len(mine) < times and not (mine and isinstance(mine[-1], Failure)):
            mine.append(runs())
    finally:
        over.set()
        helper.join()
    for outcome in mine + twins:
        if isinstance(outcome, Failure):
            return outcome
    return Pair(*(statistics.fmean(sample.cpu_s for sample in some) for some in (mine, twins)))


class Beside:
    """All pairs of a benchmark: on each of two processors one at a time (the others are left to the system)."""

    def __init__(self, bench):
        self.bench, self.results = bench, bench.results
        self.quick = bench.options.quick
        self.left = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    def measure(self, workloads, rounds):
        """Round for round, workload for workload, mode after mode; of a quick run pyshim's alone."""
        bare = next(mode for mode in self.bench.modes if mode.name == "bare")
        modes = [it for it in self.bench.modes if it is not bare and not (self.quick and it.is_peer)]
        workloads = [workload for workload in workloads if not workload.parallel]
        for number in range(1, rounds + 1):
            for workload in workloads:
                for mode in modes:
                    if self.bench.wanted(workload, mode, number, beside=True):
                        self.left.put((number, workload, mode, bare))
        processors = sorted(os.sched_getaffinity(0))[:2]
        workers = [threading.Thread(target=self.work, args=(it,)) for it in processors]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException:
            self.stopped.set()
            end_all()
            for worker in workers:
                worker.join()
            raise

    def work(self, processor):
        settle_on(processor)
        while not self.stopped.is_set():
            try:
                number, workload, mode, bare = self.left.get_nowait()
            except queue.Empty:
                return
            if self.results.failed(workload.name, mode.name):
                continue
            alone = statistics.median(s.wall_s for s in self.results.of(workload.name, mode.name))
            is_short = self.quick or not workload.beginning
            least = SHORT_LEAST_S if is_short else PEER_LEAST_S if mode.is_peer else LEAST_S
            times = math.ceil(least / alone)
            runs, twins = (partial(self.bench.run, it, workload, False) for it in (mode, bare))
            pair = side_by_side(runs, twins, times, processor)
            with self.lock:
                self.add(number, workload, mode, pair)

    def add(self, number, workload, mode, pair):
        what = f"side by side {number}  {workload.name}, {mode.name}"
        if isinstance(pair, Failure):
            self.results.add(workload.name, mode.name, number, pair)
            say(f"{what}: failed")
        else:
            self.results.pairs.setdefault((workload.name, mode.name), {})[number] = pair
            say(f"{what} (CPU s): {pair.cpu_s:.3f}, bare {pair.bare_s:.3f}")
