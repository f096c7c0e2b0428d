"""Runs numpy.test() bare and under the shim with the interpreter of a venv that
has numpy, pytest and hypothesis, and compares the outcome of every test.
Exit status 1 if one differs. Those of f2py are left out: they run compilers.
The whole takes long; `--modules numpy.linalg numpy._core.tests.test_umath` runs
a part of it.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import outcomes

LIMIT_S = 2 * 3600

PROGRAM = """
import sys, numpy
f2py = numpy.__path__[0] + "/f2py"
options = ["--junit-xml", sys.argv[1], "-p", "no:cacheprovider", "--ignore", f2py]
sys.exit(not numpy.test(label="fast", extra_argv=options, tests=sys.argv[2:] or None))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", help="libpyshim.so")
    parser.add_argument("python", help="the venv's interpreter")
    parser.add_argument("--modules", nargs="+", default=[], metavar="NAME")
    options = parser.parse_args()

    scratch = Path(tempfile.mkdtemp(prefix="pyshim-numpy-"))
    library = str(Path(options.library).resolve())
    python = Path(options.python).absolute()
    results, statuses = [], []
    for name, preload in (("bare", None), ("shim", library)):
        where = scratch / name
        where.mkdir()
        report = where / "report.xml"
        command = [python, "-c", PROGRAM, report, *options.modules]
        began = time.monotonic()
        status = outcomes.run(command, preload, where, where / "log", LIMIT_S, cwd=where)
        found = outcomes.read(report)
        ok, bad, skipped = outcomes.counts(found)
        print(
            f"numpy.test() {name}: {ok} ok, {bad} failed, {skipped} skipped in"
            f" {time.monotonic() - began:.0f} s, exit status {status},"
            f" {len(list(where.glob('*.dump')))} dumps",
            flush=True,
        )
        results.append(found)
        statuses.append(status)

    differ = outcomes.differences(*results)
    ran = all(map(outcomes.ran, results))
    same = ran and not differ and statuses[0] == statuses[1]
    if same:
        print("same outcome of every test")
    else:
        print(f"{len(differ)} tests differ" if ran else "it did not run", f"(see {scratch})")
    outcomes.show(differ)
    if same:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
