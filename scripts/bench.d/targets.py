"""What pyshim has set itself, and whether it was met in this run."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from catalog import START_UP, SURVIVORS
from modes import LABELS, MODES
from runs import Failure
from tables import spread

MIB = 1 << 20

# CPU ratio of exact mode, net of start-up.
RATIOS = {
    "call-heavy": 1.05,
    "churn": 1.45,
    "churn-survivors": 1.45,
    "json_loads": 1.45,
    "numpy": 1.10,
    "threads": 1.10,
    "deep": 1.80,
}
OTHER_RATIO = 1.25
GEOMETRIC_MEAN, GEOMETRIC_LEAST = 1.25, 12
FULL_RATIO = 2.0
SAMPLED_RATIO = 1.02
START_UP_S = 0.030
BYTES_A_BLOCK, BYTES_BESIDE = 20, 12 * MIB
DUMP_BYTES = 16 * MIB
REPORT_S, REPORT_BYTES = 1.0, 200 * MIB
LATENCY_RATIO = 3.0
SCALING = 0.90


@dataclass
class Verdict:
    what: str
    limit: str
    measured: str
    met: bool
    #: On how many workloads it is not.
    missed: str = ""

    @property
    def word(self):
        return "met" if self.met else f"**not met**{self.missed}"


def verdicts(report):
    """Each target that was measured."""
    return [*ratios(report), *peers(report), *memory(report), *reports(report), *malloc(report)]


def judged(what, limit_text, values, limit, least=False, digits=2, scale=1.0, unit=""):
    if not values:
        return Verdict(what, limit_text, "failed", False)
    middle = statistics.median(values)
    met = middle >= limit if least else middle <= limit
    return Verdict(what, limit_text, spread(values, digits, scale) + unit, met)


def worst(what, workloads, failed, figure, limit, least=False, **how):
    """A target that holds for each workload: the one that is worst decides."""
    values = {w: figure(w) for w in workloads}
    medians = {w: statistics.median(found) for w, found in values.items() if found}
    if not medians and not failed:
        return []
    shown = f"{limit / how.get('scale', 1.0):.{how.get('digits', 2)}f}{how.get('unit', '')}"
    what = f"{what}, each workload"
    missed = [w for w, value in medians.items() if value > limit]
    names = "".join(f", {w}" for w in failed)
    if not medians:
        return [Verdict(what, shown, f"failed on {names[2:]}", False)]
    at = max(medians, key=medians.get)
    text = spread(values[at], how.get("digits", 2), how.get("scale", 1.0)) + how.get("unit", "")
    text += f" on {at}, the worst of {len(medians)}"
    text += f"; failed on {names[2:]}" if failed else ""
    count = len(missed) + len(failed)
    return [Verdict(what, shown, text, count == 0, f" on {count}" if len(medians) > 1 else "")]


def ratios(report):
    results, names = report.results, report.workloads
    if "exact" in report.modes:
        for name in names:
            limit = RATIOS.get(name, OTHER_RATIO)
            values = results.ratios(name, "exact")
            yield judged(f"{name}, CPU ratio", f"{limit:.2f}", values, limit)
        yield from geometric_mean(results, names)
        values = results.added(START_UP.name, "exact", "cpu_s")
        limit = f"bare + {START_UP_S * 1e3:.0f} ms"
        how = {"digits": 1, "scale": 1e-3, "unit": " ms more"}
        yield judged("start-up, CPU", limit, values, START_UP_S, **how)
    for mode, limit in (("full", FULL_RATIO), ("sampled", SAMPLED_RATIO)):
        if mode in report.modes:
            failed = [w for w in names if results.failed(w, mode)]
            yield from worst(
                f"{LABELS[mode]}, CPU ratio",
                names,
                failed,
                lambda w, mode=mode: results.ratios(w, mode),
                limit,
            )


def geometric_mean(results, names):
    if any(results.failed(w, "exact") for w in names):
        return
    medians = [statistics.median(found) for found in (results.ratios(w, "exact") for w in names) if found]
    if not medians or min(medians) <= 0:
        return
    mean = math.exp(statistics.fmean(map(math.log, medians)))
    what = f"geometric mean of {len(medians)} workloads, CPU ratio"
    if len(medians) < GEOMETRIC_LEAST:
        what += f" (the target is of {GEOMETRIC_LEAST} or more)"
    yield judged(what, f"{GEOMETRIC_MEAN:.2f}", [mean], GEOMETRIC_MEAN)


def peers(report):
    """Faster than memray's default, and than each mode that records as much."""
    for mode in MODES:
        if mode.name not in report.modes or not (mode.complete or mode.name == "memray"):
            continue
        if "exact" not in report.modes:
            continue
        # Where the peer fails there is nothing to be faster than.
        names = [START_UP.name, *report.workloads]
        there = [w for w in names if not report.results.failed(w, mode.name)]
        yield from worst(
            f"CPU time of exact ÷ {mode.label}'s",
            there,
            [w for w in there if report.results.failed(w, "exact")],
            lambda w, peer=mode.name: report.results.against(w, peer),
            1.0,
        )


def memory(report):
    if not report.blocks or "exact" not in report.modes:
        return
    limit = BYTES_A_BLOCK * report.blocks + BYTES_BESIDE
    values = report.results.added(SURVIVORS, "exact", "max_rss")
    shown = f"{BYTES_A_BLOCK} B a block + {BYTES_BESIDE // MIB} MiB = {limit / MIB:.1f} MiB"
    how = {"digits": 1, "scale": MIB, "unit": " MiB"}
    yield judged(f"memory of {report.blocks:,} blocks", shown, values, limit, **how)


def reports(report):
    if "exact" not in report.modes:
        return
    results, names = report.results, report.workloads

    def sizes(workload):
        return [sample.output_bytes for sample in results.of(workload, "exact")]

    def again(what):
        def figure(workload):
            made = results.reports.get((workload, "exact", "summarize, again"))
            return [getattr(made, what)] if made and not isinstance(made, Failure) else []

        return figure

    crashed = [w for w in names if results.failed(w, "exact")]
    yield from worst("size of the dump", names, crashed, sizes, DUMP_BYTES, scale=MIB, digits=1, unit=" MiB")
    failed = [
        w for w in names if isinstance(results.reports.get((w, "exact", "summarize, again")), Failure)
    ]
    what = "`summarize`, second time"
    yield from worst(f"{what}, elapsed", names, failed, again("wall_s"), REPORT_S, unit=" s")
    how = {"scale": MIB, "digits": 0, "unit": " MiB"}
    yield from worst(f"{what}, memory", names, failed, again("max_rss"), REPORT_BYTES, **how)


def malloc(report):
    latency = report.latency
    if not latency or not latency.pairs or "exact" not in latency.names:
        return
    counts = sorted({threads for name, threads in latency.pairs if name == "exact"})
    for threads in counts:
        values = latency.ratios("exact", threads, "p999")
        what = f"p99.9 of malloc and free, {plural(threads)}, ratio to bare"
        yield judged(what, f"{LATENCY_RATIO:.1f}", values, LATENCY_RATIO)
    cores = report.about["machine"]["cores"]
    for threads in (2, 4):
        values = latency.kept_scaling("exact", threads)
        what = f"scaling to {plural(threads)} ({cores} cores), part of bare's"
        yield judged(what, f"at least {SCALING:.2f}", values, SCALING, least=True)


def plural(threads):
    return f"{threads} thread{'s' * (threads > 1)}"
