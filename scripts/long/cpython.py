"""Runs modules of CPython's own test suite bare and under the shim, and
compares the outcome of every single test.

A module that differs is run once more, first bare, then under the shim, and
only tests that differ both times in the same way count: a machine under load
fails tests that measure time. Exit status 1 if a difference is left.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
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


def probe(python):
    """Version of `python`, and the name that it has each module under, or None."""
    names = MODULES + list(OLDER_NAMES.values())
    out = subprocess.run(
        [python, "-c", PROBE, *names], check=True, capture_output=True, text=True
    ).stdout.split()
    present = set(out[1:]) - {"-"}
    found = {}
    for module in MODULES:
        choice = [module, OLDER_NAMES.get(module)]
        found[module] = next((name for name in choice if name in present), None)
    return out[0], found


class Run:
    """One module, once."""

    def __init__(self, python, module, library, scratch):
        where = Path(tempfile.mkdtemp(dir=scratch))
        report, self.log = where / "report.xml", where / "log"
        dumps, work = where / "dumps", where / "work"
        dumps.mkdir()
        work.mkdir()
        command = [python, "-m", "test", "-v", "--timeout", "600", "--junit-xml", report]
        for test in IGNORED:
            command += ["--ignore", test]
        command.append(module)
        self.status = outcomes.run(command, library, dumps, self.log, LIMIT_S, cwd=work)
        self.results = outcomes.read(report)
        self.dumps = sum(1 for _ in dumps.iterdir())
        shutil.rmtree(dumps, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)

    def tally(self):
        bad = outcomes.failed(self.results)
        return "%6d /%3d" % (len(self.results) - bad, bad)


def compare(python, version, module, library, scratch):
    """Prints a line of the table; true if nothing differs."""

    def once(preload):
        return Run(python, module, preload, scratch)

    with ThreadPoolExecutor(2) as pool:
        bare, shim = pool.map(once, (None, library))
    differ = outcomes.differences(bare.results, shim.results)
    again = ""
    if differ or bare.status != shim.status:
        bare, shim = once(None), once(library)
        differ &= outcomes.differences(bare.results, shim.results)
        again = "  (second run)"
    # The status also says what of tests failed, and those were just compared.
    crashed = shim.status != bare.status and (shim.status == "hung" or shim.status < 0)
    same = all(outcomes.ran(one.results) for one in (bare, shim)) and not differ and not crashed
    answer = ("yes" if same else "NO") + again
    print(
        f"{version:8} {module:27} {bare.tally()}    {shim.tally()} {shim.dumps:7}  {answer}",
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
    parser.add_argument("--modules", nargs="+", default=MODULES, choices=MODULES, metavar="NAME")
    options = parser.parse_args()

    library = str(Path(options.library).resolve())
    scratch = tempfile.mkdtemp(prefix="pyshim-cpython-")
    print(f"{'python':8} {'module':27} {'bare ok/bad':>11}    {'shim ok/bad':>11} {'dumps':>7}  same")
    same = True
    for python in map(Path.absolute, map(Path, options.pythons)):
        version, found = probe(python)
        for module in options.modules:
            if found[module]:
                same &= compare(python, version, found[module], library, scratch)
            else:
                print(f"{version:8} {module:27} is not installed with this interpreter")
    if same:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
