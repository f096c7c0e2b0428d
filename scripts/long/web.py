"""Asks web_app.py 1,000 requests, bare and under the shim, and compares every
answer. Exit status 1 if one differs or if the server ends in another way.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REQUESTS = 1000
APP = Path(__file__).resolve().parent / "web_app.py"

# What of an answer tells when it was given, not what it says.
PASSING = {"date"}


def request(base, number):
    """The request with this number; the answer does not depend on the others."""
    kind = number % 7
    if kind == 0:
        return urllib.request.Request(f"{base}/json/{number}")
    if kind == 1:
        return urllib.request.Request(f"{base}/page/{number}")
    if kind == 2:
        body = bytes([number % 256]) * (number * 97)
        return urllib.request.Request(f"{base}/echo", data=body, method="POST")
    if kind == 3:
        return urllib.request.Request(
            f"{base}/notes/{number}", data=b'{"text": "%d"}' % number, method="PUT",
            headers={"Content-Type": "application/json"},
        )
    if kind == 4:
        return urllib.request.Request(f"{base}/stream")
    if kind == 5:
        return urllib.request.Request(f"{base}/broken")
    return urllib.request.Request(f"{base}/notes/none-{number}")


def answer(base, number):
    """Status, headers and body of an answer."""
    try:
        response = urllib.request.urlopen(request(base, number), timeout=60)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        headers = sorted(
            (name.lower(), value)
            for name, value in response.headers.items()
            if name.lower() not in PASSING
        )
        return response.status, headers, response.read()


def serve(python, library, where):
    """All answers, the server's exit status, and the CPU seconds that it took."""
    environment = dict(os.environ, PYSHIM_OUT=str(where / "%e.%p.dump"))
    environment.pop("LD_PRELOAD", None)
    if library:
        environment["LD_PRELOAD"] = library
    with open(where / "log", "wb") as log:
        server = subprocess.Popen(
            [python, APP], cwd=where, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )
    port = server.stdout.readline().strip()
    if not port:
        sys.exit(f"web: the server did not start; see {where / 'log'}")
    base = f"http://127.0.0.1:{port}"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: answer(base, number), range(REQUESTS)))
    server.send_signal(signal.SIGTERM)
    before = os.times()
    status = server.wait(60)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return answers, status, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", help="libpyshim.so")
    parser.add_argument("python", help="interpreter of a venv that has flask and waitress")
    options = parser.parse_args()

    scratch = Path(tempfile.mkdtemp(prefix="pyshim-web-"))
    library = str(Path(options.library).resolve())
    runs = []
    for name, preload in (("bare", None), ("shim", library)):
        where = scratch / name
        where.mkdir()
        started = time.monotonic()
        answers, status, cpu = serve(Path(options.python).absolute(), preload, where)
        kinds = sorted({one[0] for one in answers})
        print(
            f"web {name}: {len(answers)} answers (status {', '.join(map(str, kinds))}) in"
            f" {time.monotonic() - started:.1f} s, {cpu:.2f} s CPU with start-up,"
            f" exit status {status}, {len(list(where.glob('*.dump')))} dumps",
            flush=True,
        )
        runs.append((answers, status))

    (bare, bare_status), (shim, shim_status) = runs
    differ = [number for number in range(REQUESTS) if bare[number] != shim[number]]
    same = not differ and bare_status == shim_status
    print("same answers" if same else f"{len(differ)} answers differ; see {scratch}")
    for number in differ[:10]:
        print(f"    request {number}: {bare[number]!r:.300} bare, {shim[number]!r:.300} under the shim")
    if same:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
