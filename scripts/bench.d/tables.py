"""Tables in Markdown, and the same as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict

from catalog import START_UP, SURVIVORS
from measure import FEW_PAIRS
from modes import LABELS, MODES
from runs import Failure

SCHEMA = "pyshim.bench/3"
MIB = 1 << 20
# Columns of one table; more are put into a second one.
WIDTH = 8


def spread(values, digits=2, scale=1.0):
    """Median, with minimum and maximum if there is more than one."""
    if not values:
        return "–"
    low, middle, high = min(values), statistics.median(values), max(values)
    text = f"{middle / scale:.{digits}f}"
    return text if len(values) == 1 else f"{text} ({low / scale:.{digits}f}–{high / scale:.{digits}f})"


def table(head, rows):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|---|" + "---:|" * (len(head) - 1), *map(line, rows)])


NET = (
    "Ratio of CPU time to bare Python, net of start-up: of what the same program takes to begin, import what "
    "it needs, and end (column “bare”: its seconds, start-up included). Of runs that take turns with bare ones "
    "on one processor{alone}."
)
STARTS = "An empty program, and programs that begin, import what they need, and end: milliseconds more than bare."


class Report:
    """What was measured, as tables."""

    def __init__(self, bench, latency, about):
        self.results, self.latency, self.about = bench.results, latency, about
        self.quick = bench.options.quick
        self.modes = [mode.name for mode in bench.modes if mode.name != "bare"]
        self.workloads = [workload.name for workload in bench.workloads]
        begun = [w.beginning.name for w in bench.workloads if w.beginning is not START_UP]
        self.beginnings = [START_UP.name, *begun]
        sizes = {workload.name: workload.size(self.quick) for workload in bench.workloads}
        self.blocks = sizes.get(SURVIVORS, 0)

    def verdicts(self):
        from targets import verdicts  # It shows figures as tables do.

        return verdicts(self)

    def markdown(self):
        parts = [self.heading(), self.targets(), self.cpu(), self.against(), self.start_up()]
        parts += [self.wall(), self.memory(), self.output(), self.reports()]
        parts += [self.pairs(), self.rates(), self.failed()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def digest(self):
        """What fits into a page about something else."""
        parts = [self.heading(), self.targets(), self.cpu(), self.failed()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def heading(self):
        about, where = self.about, self.about["machine"]
        versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
        load = " to ".join(f"{value:.1f}" for value in about["load"])
        sizes = "small sizes (--quick)" if self.quick else "full sizes"
        rounds = about["rounds"]
        return (
            f"{where['cpu']}, {where['cores']} cores, {where['memory_bytes'] / 2**30:.0f} GiB, "
            f"{where['kernel']}, {where['libc']}. {versions}. {about['date']}; "
            f"{rounds} round{'s' * (rounds > 1)} (fewer where a mode is slow), {sizes}, "
            f"load average {load}. Figures are medians, with minimum and maximum."
        )

    # ---- Tables with a column a mode ---------------------------------------

    def cell(self, workload, mode, values, **how):
        failure = self.results.failed(workload, mode)
        return f"failed: {failure.reason}" if failure else spread(values, **how)

    def by_mode(self, note, first, bare, workloads, figure, modes=None, **how):
        """A row a workload, a column a mode; `figure` gives the values of both and
        `bare` the text of the first column."""
        modes = self.modes if modes is None else modes
        if not workloads or not modes:
            return ""
        parts = [note] if note else []
        for at in range(0, len(modes), WIDTH):
            some = modes[at : at + WIDTH]
            rows = []
            for workload in workloads:
                cells = [self.cell(workload, mode, figure(workload, mode), **how) for mode in some]
                rows.append([workload, *([bare(workload)] if bare else []), *cells])
            head = [first, *(["bare"] if bare else []), *(LABELS[mode] for mode in some)]
            parts.append(table(head, rows))
        return "\n\n".join(parts)

    def bare(self, what, digits, scale=1.0):
        def text(workload):
            samples = self.results.of(workload, "bare")
            return spread([getattr(sample, what) for sample in samples], digits, scale)

        return text

    def cpu(self):
        return self.by_mode(
            NET.format(alone=self.alone()),
            "CPU",
            self.bare("cpu_s", 2),
            self.workloads,
            self.results.ratios,
        )

    def alone(self):
        """Which of the ratios are not of runs side by side."""
        every = [(w, m) for w in self.workloads for m in self.modes if not self.results.failed(w, m)]
        alone = [(w, m) for w, m in every if not self.results.paired(w, m)]
        workloads = [w for w in self.workloads if all((w, m) in alone for m in self.modes)]
        rest = [m for w, m in alone if w not in workloads]
        quick = self.quick and any(mode.is_peer and mode.name in rest for mode in MODES)
        names = workloads + [f"what takes more than {FEW_PAIRS[0][0]:.0f} s"] * bool(rest)
        if quick:
            names = [*workloads, "peers"]
        return f"; {', '.join(names)}: one after the other" if names else ""

    def against(self):
        if "exact" not in self.modes:
            return ""
        return self.by_mode(
            "CPU time of pyshim exact as a ratio to each peer's, net of start-up: below 1 it is faster.",
            "exact ÷ peer",
            None,
            [START_UP.name, *self.workloads],
            self.results.against,
            [mode.name for mode in MODES if mode.is_peer and mode.name in self.modes],
        )

    def start_up(self):
        parts = []
        for what, label in (("cpu_s", "CPU, ms"), ("wall_s", "wall, ms")):
            parts.append(
                self.by_mode(
                    "" if parts else STARTS,
                    label,
                    self.bare(what, 1, 1e-3),
                    self.beginnings,
                    lambda w, m, what=what: self.results.added(w, m, what),
                    digits=1,
                    scale=1e-3,
                )
            )
        return "\n\n".join(part for part in parts if part)

    def wall(self):
        return self.by_mode(
            "Ratio of elapsed time to bare Python, net of start-up.",
            "wall",
            self.bare("wall_s", 2),
            self.workloads,
            lambda w, m: self.results.ratios(w, m, "wall_s"),
        )

    def memory(self):
        shown = self.by_mode(
            "Maximum resident memory more than bare.",
            "memory, MiB",
            self.bare("max_rss", 1, MIB),
            [START_UP.name, *self.workloads],
            lambda w, m: self.results.added(w, m, "max_rss"),
            digits=1,
            scale=MIB,
        )
        if not self.blocks:
            return shown
        a_block = self.by_mode(
            f"Bytes more for each of {self.blocks:,} live blocks, net of start-up.",
            "bytes",
            None,
            [SURVIVORS],
            lambda _, m: self.results.bytes_a_block(m, self.blocks),
            digits=1,
        )
        return f"{shown}\n\n{a_block}"

    def output(self):
        return self.by_mode(
            "Size of what is left on disk.",
            "output, MiB",
            None,
            [START_UP.name, *self.workloads],
            lambda w, m: [sample.output_bytes for sample in self.results.of(w, m)],
            [mode.name for mode in MODES if mode.tool.leaves and mode.name in self.modes],
            digits=2,
            scale=MIB,
        )

    def reports(self):
        made = self.results.reports
        columns = list(dict.fromkeys((mode, name) for _, mode, name in made))
        if not columns:
            return ""
        rows = []
        for workload in self.workloads:
            cells = []
            for mode, name in columns:
                one = made.get((workload, mode, name))
                if isinstance(one, Failure):
                    cells.append(f"failed: {one.reason}")
                else:
                    cells.append(f"{one.wall_s:.2f} s, {one.max_rss / MIB:.0f} MiB" if one else "–")
            rows.append([workload, *cells])
        head = ["report", *(f"{LABELS[mode]}: {name}" for mode, name in columns)]
        return "Time and memory of making a report, once.\n\n" + table(head, rows)

    # ---- The allocator from within -----------------------------------------

    def pairs(self):
        if not self.latency or not self.latency.pairs:
            return ""
        rows = []
        for which, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max")):
            for threads in sorted({threads for _, threads in self.latency.pairs}):
                row = [f"{label}, {threads} thread{'s' * (threads > 1)}"]
                for name in self.latency.names:
                    digits = 0 if which == "max" else 1
                    values = self.latency.percentiles(name, threads, which)
                    row.append(self.latency_cell(name, values, digits))
                rows.append(row)
        note = "Nanoseconds for a free and a malloc of 16 to 1023 bytes in a C program, clock included."
        return f"{note}\n\n{table(['pair, ns', *self.labels()], rows)}"

    def rates(self):
        if not self.latency or not self.latency.rates:
            return ""
        rows = []
        for kept, at_one in ((self.latency.rates, False), (self.latency.at_one, True)):
            for threads in sorted({threads for _, threads in kept}):
                row = [f"{threads} thread{'s' * (threads > 1)}{' at one site' * at_one}"]
                for name in self.latency.names:
                    rate = self.latency.rate(name, threads, at_one)
                    text = self.latency_cell(name, rate, 1, 1e6)
                    grown = self.latency.scaling(name, threads, at_one)
                    row.append(f"{text} = × {statistics.median(grown):.2f}" if grown else text)
                rows.append(row)
        note = (
            "Million pairs a second of all threads, each at a site of its own or all of them at one,"
            " and the factor to one thread."
        )
        return f"{note}\n\n{table(['pairs, 10⁶/s', *self.labels()], rows)}"

    def labels(self):
        return [LABELS[name] for name in self.latency.names]

    def latency_cell(self, name, values, digits, scale=1.0):
        failure = self.latency.failures.get(name)
        return f"failed: {failure.reason}" if failure else spread(values, digits, scale)

    # ---- What was and was not reached --------------------------------------

    def targets(self):
        rows = [[one.what, one.limit, one.measured, one.word] for one in self.verdicts()]
        return table(["target", "at most", "measured", "verdict"], rows) if rows else ""

    def failed(self):
        lines = []
        for (workload, mode), failure in self.results.failures.items():
            detail = f": `{failure.message}`" if failure.message else ""
            lines.append(f"- {LABELS[mode]} on {workload}: {failure.reason}{detail}")
        for (workload, mode, name), made in self.results.reports.items():
            if isinstance(made, Failure):
                lines.append(f"- {LABELS[mode]}, {name} of {workload}: {made.reason}")
        for mode, failure in self.latency.failures.items() if self.latency else ():
            lines.append(f"- {LABELS[mode]}, latency: {failure.reason}")
        lines += [f"- {note}" for note in self.about["notes"]]
        return "\n".join(["Not measured:", "", *lines]) if lines else ""

    # ---- JSON --------------------------------------------------------------

    def json(self):
        every = [*self.beginnings, *self.workloads]
        return {
            "schema": SCHEMA,
            **self.about,
            "quick": self.quick,
            "workloads": {
                workload: {mode: self.figures(workload, mode) for mode in ["bare", *self.modes]}
                for workload in every
            },
            "bytes_a_live_block": {
                mode: self.results.bytes_a_block(mode, self.blocks) for mode in self.modes if self.blocks
            },
            "reports": [
                {"workload": workload, "mode": mode, "report": name, **asdict(made)}
                for (workload, mode, name), made in self.results.reports.items()
            ],
            "latency": self.latency.json() if self.latency else None,
            "targets": [
                {"target": one.what, "at_most": one.limit, "measured": one.measured, "met": one.met}
                for one in self.verdicts()
            ],
        }

    def figures(self, workload, mode):
        failure = self.results.failed(workload, mode)
        if failure:
            return {"failed": asdict(failure)}
        samples = [asdict(sample) for sample in self.results.of(workload, mode)]
        if workload in self.beginnings:
            return {"samples": samples}
        figures = {
            "samples": samples,
            "side_by_side": [asdict(pair) for pair in self.results.pairs.get((workload, mode), {}).values()],
            "cpu_ratios": self.results.ratios(workload, mode),
            "wall_ratios": self.results.ratios(workload, mode, "wall_s"),
        }
        if mode not in ("bare", "exact") and "exact" in self.modes:
            figures["exact_cpu_to_this"] = self.results.against(workload, mode)
        return figures


def write_markdown(path, report):
    """A digest between the marks of a page that has them (`<!-- bench -->`), else everything, as a page."""
    opening, closing = "<!-- bench -->", "<!-- /bench -->"
    old = path.read_text() if path.exists() else ""
    text = f"# The benchmark\n\n{report.markdown()}"
    if opening in old and closing in old:
        before, rest = old.split(opening, 1)
        after = rest.split(closing, 1)[1]
        text = f"{before}{opening}\n{report.digest()}{closing}{after}"
    path.write_text(text)
