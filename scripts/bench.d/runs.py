"""One run of one program, measured."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# Starts the program and waits for it. It is a process of its own because the
# kernel counts the memory of whoever starts a program into that program's
# maximum: this one is smaller than any interpreter that is measured.
SPAWNER = """
import posix, sys, time
result, count = sys.argv[1], int(sys.argv[2])
environment = dict(posix.environ)
for pair in sys.argv[3:3 + count]:
    name, _, value = pair.partition("=")
    environment[name.encode()] = value.encode()
command = sys.argv[3 + count:]
begin = time.monotonic()
pid = posix.posix_spawn(command[0], command, environment)
_, status, used = posix.wait4(pid, 0)
wall = time.monotonic() - begin
line = "%d %.6f %.6f %d" % (status, wall, used.ru_utime + used.ru_stime, used.ru_maxrss)
posix.write(posix.open(result, posix.O_WRONLY | posix.O_CREAT, 0o600), line.encode())
"""


@dataclass
class Sample:
    cpu_s: float
    wall_s: float
    max_rss: int
    output_bytes: int


@dataclass
class Failure:
    reason: str
    message: str = ""


def clean_environment():
    """Ours, without what would change how an interpreter runs."""
    strange = ("PYTHON", "PYSHIM_", "MALLOC_", "LD_", "GLIBC_TUNABLES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    # The same hashes and one thread of linear algebra, so that runs compare.
    return {**kept, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def how_it_ended(status):
    """Why a wait status is a failure, or nothing."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    code = os.WEXITSTATUS(status)
    return f"exited {code}" if code else ""


# What runs now.
SPAWNERS = set()


def end_all():
    """Ends what other threads wait for: their runs have failed."""
    for spawner in list(SPAWNERS):
        os.killpg(spawner.pid, signal.SIGKILL)


def wait_for(spawner, limit):
    """Whether the run ended in time. Whatever happens, nothing of it is left."""
    SPAWNERS.add(spawner)
    try:
        spawner.wait(limit)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        if spawner.poll() is None:
            os.killpg(spawner.pid, signal.SIGKILL)
            spawner.wait()
        SPAWNERS.discard(spawner)


def measured(command, variables, folder, limit):
    """Runs a command. Its sample or its failure, and what it said on stdout."""
    result, printed, said = (folder / name for name in ("result", "stdout", "stderr"))
    result.unlink(missing_ok=True)
    pairs = [f"{name}={value}" for name, value in variables.items()]
    spawned = [sys.executable, "-I", "-S", "-c", SPAWNER, str(result), str(len(pairs))]
    with printed.open("wb") as stdout, said.open("wb") as stderr:
        spawner = subprocess.Popen(
            spawned + pairs + command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env=clean_environment(),
            start_new_session=True,
        )
        in_time = wait_for(spawner, limit)
    wait_for_children(spawner)
    message = said.read_text(errors="replace").strip().splitlines()
    last = message[-1] if message else ""
    text = printed.read_text(errors="replace")
    if not in_time:
        return Failure(f"not done after {limit:.0f} s", last), text
    if not result.exists():
        return Failure("not started", last), text
    status, wall, cpu, kibibytes = result.read_text().split()
    reason = how_it_ended(int(status))
    if reason:
        return Failure(reason, last), text
    return Sample(float(cpu), float(wall), int(kibibytes) * 1024, 0), text


def wait_for_children(spawner):
    """Whoever a run leaves behind writes on: the copy of a process that searched its heap packs the dump
    when it is done, into a file beside it. They are in the group of whoever started the run."""
    for _ in range(500):
        try:
            os.killpg(spawner.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def run(kit, mode, program, scratch, limit, reports=False):
    """A program under a mode: its sample or failure, and if they are asked for,
    (name, sample or failure) of each report of what the run left."""
    out = Path(tempfile.mkdtemp(dir=scratch))
    kept = out / "kept"
    kept.mkdir()
    try:
        command = mode.command(kit, program, kept)
        outcome, printed = measured(command, mode.variables(kit, kept), out, limit)
        if isinstance(outcome, Failure):
            return outcome, []
        files = sorted(file for file in kept.rglob("*") if file.is_file())
        outcome.output_bytes = sum(file.stat().st_size for file in files)
        if printed and not mode.tool.talks:
            return Failure("printed something", printed.splitlines()[0]), []
        if mode.tool.leaves and not outcome.output_bytes:
            return Failure("left no output"), []
        made = []
        for name, command in mode.tool.reports(kit, files) if reports and files else []:
            made.append((name, measured(command, {}, out, limit)[0]))
        return outcome, made
    finally:
        shutil.rmtree(out, ignore_errors=True)
