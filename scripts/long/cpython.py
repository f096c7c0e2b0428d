"""Runs modules of CPython's own test suite bare and under the shim, and
compares the outcome of every single test.

A long module can be run in pieces: `--modules test_asyncio.test_tasks`, or
`--match 'WithThreads*'`. A module that differs is run once more, first bare, then under the shim, and
only tests that differ both times in the same way count: a machine under load
fails tests that measure time. Exit status 1 if a difference is left.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import outcomes

MODULES = [
    "test_json",
    "test_re",
    "test_gc",
    "test_sqlite3",
    "test_ctypes",
    "test_threading",
    "test_subprocess",
    "test_asyncio",
    "test_multiprocessing_spawn",
]
OLDER_NAMES = {"test_sqlite3": "test_sqlite"}

# Hangs now and then, without the shim as well: whether the interrupt arrives
# while the stack is being unwound from too deep a recursion is a matter of luck.
IGNORED = ["test_print_exception_gh_102056"]

# None of the modules takes this long, so a run that does has hung.
LIMIT_S = 3600

PROBE = """
import importlib.util, sys
print("%d.%d.%d" % sys.version_info[:3])
for name in sys.argv[1:]:
    print(name if importlib.util.find_spec("test." + name) else "-")
"""

# Some installations lack the module of a few lines, but have the tests that it names.
# One of the same name would be looked for among the parts of the suite that are packages.
SPAWN = "test_multiprocessing_spawn"
SPAWN_AS = "test_spawned_processes"
SPAWN_SOURCE = """
import test._test_multiprocessing
test._test_multiprocessing.install_tests_in_module_dict(globals(), "spawn")
"""


def probe(python, modules):
    """Version of `python`, and the name that it has each module under, or None."""
    names = modules + [OLDER_NAMES.get(name, name) for name in modules]
    out = subprocess.run(
        [python, "-c", PROBE, *names], check=True, capture_output=True, text=True
    ).stdout.split()
    present = set(out[1:]) - {"-"}
    found = {}
    for module in modules:
        choice = [module, OLDER_NAMES.get(module)]
        found[module] = next((name for name in choice if name in present), None)
    return out[0], found


class Run:
    """One module, once."""

    def __init__(self, python, module, preload, how):
        where = Path(tempfile.mkdtemp(dir=how.scratch))
        report, self.log = where / "report.xml", where / "log"
        dumps, work = where / "dumps", where / "work"
        dumps.mkdir()
        work.mkdir()
        command = [python, "-m", "test", "-v", "--timeout", "600", "--junit-xml", report]
        # With both, CPython to 3.12 runs all that is not ignored.
        for test in IGNORED if not how.match else []:
            command += ["--ignore", test]
        for pattern in how.match:
            command += ["--match", pattern]
        if how.lacks_spawn and module == SPAWN:
            tests = where / "tests"
            tests.mkdir()
            (tests / f"{SPAWN_AS}.py").write_text(SPAWN_SOURCE)
            command += ["--testdir", tests]
            module = SPAWN_AS
        command.append(module)
        began = time.monotonic()
        self.status = outcomes.run(command, preload, dumps, self.log, LIMIT_S, cwd=work)
        self.seconds = time.monotonic() - began
        self.results = outcomes.read(report)
        self.dumps = sum(1 for _ in dumps.iterdir())
        shutil.rmtree(dumps, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)

    def tally(self):
        counts = outcomes.counts(self.results)
        return "%5d /%3d /%4d %5.0f s" % (*counts, self.seconds)


class How:
    """What all runs have in common."""

    def __init__(self, library, match, scratch):
        self.library, self.match, self.scratch = library, match, scratch
        self.lacks_spawn = False


def compare(python, version, module, how):
    """Prints a line of the table; true if nothing differs."""

    def once(preload):
        return Run(python, module, preload, how)

    with ThreadPoolExecutor(2) as pool:
        bare, shim = pool.map(once, (None, how.library))
    differ = outcomes.differences(bare.results, shim.results)
    again = ""
    if differ or bare.status != shim.status:
        bare, shim = once(None), once(how.library)
        differ &= outcomes.differences(bare.results, shim.results)
        again = "  (second run)"
    # The status also says what of tests failed, and those were just compared.
    crashed = shim.status != bare.status and (shim.status == "hung" or shim.status < 0)
    same = all(outcomes.ran(one.results) for one in (bare, shim)) and not differ and not crashed
    answer = ("yes" if same else "NO") + again
    print(
        f"{version:8} {module:27} {bare.tally()}   {shim.tally()} {shim.dumps:7}  {answer}",
        flush=True,
    )
    if not same:
        print(f"    exit status {bare.status} bare, {shim.status} under the shim; see {shim.log}")
        outcomes.show(differ)
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", help="libpyshim.so")
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--modules", nargs="+", default=MODULES, metavar="NAME")
    parser.add_argument("--match", nargs="+", default=[], metavar="PATTERN")
    options = parser.parse_args()

    library = str(Path(options.library).resolve())
    how = How(library, options.match, tempfile.mkdtemp(prefix="pyshim-cpython-"))
    tally = "ok /bad /skip   time"
    print(f"{'python':8} {'module':27} {'bare: ' + tally}   {'shim: ' + tally}   dumps  same")
    same = True
    for python in map(Path.absolute, map(Path, options.pythons)):
        version, found = probe(python, [*options.modules, "_test_multiprocessing"])
        how.lacks_spawn = SPAWN in found and not found[SPAWN]
        if how.lacks_spawn and found["_test_multiprocessing"]:
            found[SPAWN] = SPAWN
        for module in options.modules:
            if found[module]:
                same &= compare(python, version, found[module], how)
            else:
                print(f"{version:8} {module:27} is not installed with this interpreter")
    if same:
        shutil.rmtree(how.scratch, ignore_errors=True)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
