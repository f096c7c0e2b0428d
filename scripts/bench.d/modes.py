"""The ways to run a program: bare, under pyshim, under each peer.

A tool knows how a program is started under it, which variables that needs, and
which commands make a report of what it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from environment import library_path


class Bare:
    """The interpreter, perhaps with an option."""

    #: What must be in the kit.
    needs = ""
    #: It leaves a file.
    leaves = False
    #: It says something on stdout itself.
    talks = False

    def command(self, kit, flags, program, out):
        return [kit.python, *flags, *program]

    def variables(self, kit, out):
        return {}

    def reports(self, kit, files):
        """(name, command) of each report that can be made."""
        return []


class Pyshim(Bare):
    leaves = True

    def variables(self, kit, out):
        return {"LD_PRELOAD": kit.library, "PYSHIM_OUT": f"{out}/pyshim.%p.dump"}

    def reports(self, kit, files):
        command = [kit.reporter, "summarize", *map(str, files)]
        return [("summarize, first", command), ("summarize, again", command)]


class Memray(Bare):
    needs = "memray"
    leaves = True

    def command(self, kit, flags, program, out):
        recorded = ["-m", "memray", "run", "-q", "-f", "-o", f"{out}/memray.bin"]
        return [kit.python, *recorded, *flags, *program]

    def reports(self, kit, files):
        memray = [kit.python, "-m", "memray"]
        return [(verb, [*memray, verb, str(files[0])]) for verb in ("stats", "summary")]


class Heaptrack(Bare):
    needs = "heaptrack"
    leaves = True
    talks = True

    def command(self, kit, flags, program, out):
        return [kit.heaptrack, "-o", f"{out}/heaptrack", kit.python, *program]

    def variables(self, kit, out):
        root = Path(kit.heaptrack).parent.parent
        return library_path(root / "lib" / "x86_64-linux-gnu")

    def reports(self, kit, files):
        return [("heaptrack_print", [kit.heaptrack + "_print", str(files[0])])]


class Fil(Bare):
    """Its report is made at the end of the run, and part of it."""

    needs = "filprofiler"
    leaves = True
    talks = True

    def command(self, kit, flags, program, out):
        return [kit.python, "-m", "filprofiler", "--no-browser", "-o", str(out), "run", *program]


class Scalene(Bare):
    """Its report, too, is part of the run."""

    needs = "scalene"
    leaves = True
    talks = True

    def command(self, kit, flags, program, out):
        begun = [kit.python, "-m", "scalene", "run", "--memory", "--outfile", f"{out}/scalene.json"]
        return [*begun, *program]


class Jemalloc(Bare):
    needs = "jemalloc"
    leaves = True

    def variables(self, kit, out):
        options = f"prof:true,prof_final:true,prof_prefix:{out}/jemalloc"
        return {"LD_PRELOAD": kit.jemalloc, "MALLOC_CONF": options}


@dataclass(frozen=True)
class Mode:
    """A tool with its settings."""

    name: str
    label: str
    tool: Bare
    flags: tuple = ()
    environment: dict = field(default_factory=dict)
    #: Left out of quick runs, unless asked for by name.
    long: bool = False
    #: It records every block, of Python's allocators too, with its Python stack.
    complete: bool = False
    #: Reports of its output are measured.
    reported: bool = False

    @property
    def is_peer(self):
        return self.name != "bare" and not isinstance(self.tool, Pyshim)

    def command(self, kit, program, out):
        return self.tool.command(kit, self.flags, program, out)

    def variables(self, kit, out):
        return {**self.tool.variables(kit, out), **self.environment}


SAMPLED = {"PYSHIM_SAMPLE": "512KiB"}
FULL = {"PYSHIM_NATIVE": "full"}
PYTHON = "--trace-python-allocators"
NATIVE = "--native"

MODES = [
    Mode("bare", "bare", Bare()),
    Mode("exact", "pyshim exact", Pyshim(), reported=True),
    Mode("full", "pyshim exact, full native", Pyshim(), environment=FULL),
    Mode("sampled", "pyshim sampled 512 KiB", Pyshim(), environment=SAMPLED),
    Mode("memray", "memray", Memray(), reported=True),
    Mode("memray-python", "memray +python", Memray(), (PYTHON,), complete=True, reported=True),
    Mode("memray-native", "memray +native", Memray(), (NATIVE,)),
    Mode(
        "memray-both",
        "memray +python +native",
        Memray(),
        (NATIVE, PYTHON),
        long=True,
        complete=True,
    ),
    Mode("jemalloc", "jemalloc prof (samples 512 KiB)", Jemalloc()),
    Mode("tracemalloc", "tracemalloc 1 frame", Bare(), ("-X", "tracemalloc=1")),
    Mode(
        "tracemalloc-25",
        "tracemalloc 25 frames",
        Bare(),
        ("-X", "tracemalloc=25"),
        long=True,
        complete=True,
    ),
    Mode("heaptrack", "heaptrack", Heaptrack(), reported=True),
    Mode("fil", "Fil", Fil()),
    Mode("scalene", "Scalene memory (samples)", Scalene()),
]
LABELS = {mode.name: mode.label for mode in MODES}
