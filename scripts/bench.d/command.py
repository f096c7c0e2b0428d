"""Measures what pyshim costs a Python program, next to its peers.

Makes an environment of its own in the cache (peers and what the workloads need;
Debian's heaptrack and jemalloc are unpacked there if the system has none),
builds pyshim, runs each workload under each mode, first alone, for elapsed time and
memory, then side by side with the bare interpreter on one processor, for CPU time, and
prints tables in Markdown:

    scripts/bench                        everything, an hour or more
    scripts/bench --quick                small sizes, ends within 5 minutes
    scripts/bench --only churn,numpy --modes exact,memray-python --rounds 9

Ratios are of CPU time (user and system, all threads and waited children, not the copy that
searches the heap at the end: scripts/bench-snapshot) to
the bare interpreter's beside it, net of start-up: what the same program
takes in each mode to begin, import what it needs and end is subtracted first. (A program whose
threads run at once has no one beside it: there both are of a round's runs alone.) A mode that crashes,
prints something or leaves no output shows as failed, never as fast; what cannot
be installed is said to be not there. A slow mode is run in fewer rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import environment
from catalog import START_UP, WORKLOADS
from environment import Impossible, say
from latency import Latency
from measure import Bench
from modes import LABELS, MODES
from tables import Report, write_markdown

LATENCY = "latency"


def names(known):
    def parse(text):
        wanted = [name for name in text.split(",") if name]
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return wanted

    return parse


def read_options():
    workloads = [START_UP.name, *(workload.name for workload in WORKLOADS), LATENCY]
    summary, details = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--python", metavar="PATH", help="interpreter (default: the newest from 3.11 to 3.13)")
    add("--no-build", action="store_true", help="take target/release as it is")
    add("--rounds", type=int, metavar="N", help="side by side; default 3, with --quick 1")
    add("--quick", action="store_true", help="small sizes; fewer workloads where 5 minutes are short")
    add("--only", type=names(workloads), metavar="WORKLOAD,…", help=f"of {', '.join(workloads)}")
    add("--modes", type=names(list(LABELS)), metavar="MODE,…", help=f"of {', '.join(LABELS)}")
    add("--no-peers", action="store_true", help="only pyshim's modes")
    add("--json", type=Path, metavar="OUT", help="also write every sample there")
    add(
        "--markdown",
        type=Path,
        metavar="OUT",
        action="append",
        help="write the tables there, the first ones between <!-- bench --> and "
        "<!-- /bench --> if it has them, instead of stdout; more than once if need be",
    )
    options = parser.parse_args()
    options.began = time.monotonic()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    # Not after an hour.
    for page in [*(options.markdown or []), *([options.json] if options.json else [])]:
        if not os.access(page if page.exists() else page.parent, os.W_OK) or page.is_dir():
            parser.error(f"{page} cannot be written")
    return options


def select(options, kit):
    """The modes and workloads to run, and why others are not."""
    notes, modes = [], []
    for mode in MODES:
        if mode.name != "bare" and options.modes and mode.name not in options.modes:
            continue
        if options.no_peers and mode.is_peer:
            continue
        if options.quick and mode.long and not options.modes:
            notes.append(f"{mode.label}: left out of quick runs")
        elif mode.tool.needs in kit.missing:
            notes.append(f"{mode.label}: not there: {kit.missing[mode.tool.needs]}")
        else:
            modes.append(mode)
    workloads = []
    for workload in WORKLOADS:
        if options.only and workload.name not in options.only:
            continue
        missing = [name for name in workload.needs if name in kit.missing]
        if missing:
            notes.append(f"{workload.name}: {missing[0]} is not there: {kit.missing[missing[0]]}")
        else:
            workloads.append(workload)
    for note in notes:
        say(f"bench: {note}")
    return modes, workloads, notes


def measure(options, scratch):
    """Everything, from set-up to the report."""
    kit = environment.make_environment(environment.choose_python(options.python))
    if not options.no_peers:
        environment.find_heaptrack(kit)
        environment.find_jemalloc(kit)
    environment.build(kit, scratch, not options.no_build)
    modes, workloads, notes = select(options, kit)
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": environment.machine(),
        "versions": kit.versions,
        "notes": notes,
        "load": [os.getloadavg()[0]],
    }
    latency = None
    if not options.only or LATENCY in options.only:
        latency = Latency(options, kit, modes, scratch)
        latency.measure()
        notes += [latency.note] if latency.note else []
    bench = Bench(options, kit, modes, workloads, scratch)
    about["rounds"] = bench.measure()
    notes += bench.notes
    about["load"].append(os.getloadavg()[0])
    about["took_s"] = round(time.monotonic() - options.began)
    return Report(bench, latency, about)


def main():
    options = read_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="pyshim-bench-") as scratch:
            report = measure(options, scratch)
    except Impossible as reason:
        say(f"bench: {reason}")
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps(report.json(), indent=1) + "\n")
    for page in options.markdown or []:
        write_markdown(page, report)
    if not options.markdown:
        sys.stdout.write(report.markdown())
    return 0
