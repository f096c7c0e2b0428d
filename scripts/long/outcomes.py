"""What the tests of somebody else's suite came to, from a JUnit file, and how
two runs of it differ. Used by the other programs of this folder."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

# From best to worst.
OUTCOMES = ["ok", "skipped", "failure", "error"]

# A test may have an object's address in its name.
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


def read(report):
    """Outcome by test; nothing where the run left no file."""
    try:
        tree = ElementTree.parse(report)
    except (OSError, ElementTree.ParseError):
        return {}
    found = {}
    for case in tree.iter("testcase"):
        name = "%s %s" % (case.get("classname") or "", case.get("name"))
        name = ADDRESS.sub("0x…", name).strip()
        outcome = "skipped" if case.get("result") == "suppressed" else "ok"
        for child in case:
            if child.tag in OUTCOMES:
                outcome = max(outcome, child.tag, key=OUTCOMES.index)
        # Sub-tests share a name: the worst of them is the test's.
        found[name] = max(outcome, found.get(name, "ok"), key=OUTCOMES.index)
    return found


def failed(results):
    """How many went wrong."""
    return sum(outcome in ("failure", "error") for outcome in results.values())


def counts(results):
    """How many were as they should be, went wrong, and were skipped."""
    skipped = sum(outcome == "skipped" for outcome in results.values())
    return len(results) - failed(results) - skipped, failed(results), skipped


def ran(results):
    """Whether it is a run to compare with: one in which nothing works proves nothing."""
    return len(results) > 2 * failed(results)


def differences(bare, shim):
    """(test, outcome bare, outcome under the shim) where the two are not the same."""
    return {
        (name, bare.get(name, "missing"), shim.get(name, "missing"))
        for name in bare.keys() | shim.keys()
        if bare.get(name) != shim.get(name)
    }


def show(found):
    """Prints what `differences` found."""
    for test, bare, shim in sorted(found):
        print("    %s: %s bare, %s under the shim" % (test, bare, shim))


def run(command, library, dumps, log, limit, **options):
    """Runs a suite, with the shim if `library` is given; its exit status, negative
    for a signal and "hung" if it took more than `limit` seconds."""
    environment = dict(os.environ, PYSHIM_OUT=str(dumps / "%e.%p.dump"))
    environment.pop("LD_PRELOAD", None)
    if library:
        environment["LD_PRELOAD"] = library
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True, **options,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return "hung"
        finally:
            # What hung, or was left behind by a test that did.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(__doc__)
