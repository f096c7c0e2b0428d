"""What is measured, and with what: interpreter, packages, Debian's tools, pyshim.

Nothing is installed outside the cache: packages go into a virtual environment,
Debian's packages are unpacked into a folder.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PYTHONS = ((3, 11), (3, 13))  # What the peers have wheels for.

PACKAGES = {
    "memray": "1.20.0",
    "filprofiler": "2024.11.2",
    "scalene": "2.4.0",
    "pyperformance": "1.14.0",
    "numpy": "2.5.5",
    "flask": "3.1.3",
    "lxml": "6.1.3",
}
VERSIONS = """
import importlib.metadata as it, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = it.version(name)
    except it.PackageNotFoundError: pass
print(json.dumps(found))
"""


class Impossible(Exception):
    """The benchmark cannot be run, and why."""


@dataclass
class Kit:
    """Everything that runs need, by path; why something is missing in `missing`."""

    python: str
    library: str = ""
    reporter: str = ""
    heaptrack: str = ""
    jemalloc: str = ""
    versions: dict = field(default_factory=dict)
    missing: dict = field(default_factory=dict)


def say(message):
    print(message, file=sys.stderr, flush=True)


def output_of(*command, **how):
    """What a command prints, or nothing if it fails or is not there."""
    try:
        done = subprocess.run(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **how
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def cache():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyshim"


# ---- The interpreter and its packages --------------------------------------


def choose_python(wanted):
    if wanted:
        path = shutil.which(wanted)
        if not path:
            raise Impossible(f"{wanted} is no executable")
        return path
    listed = subprocess.run(
        [str(PROJECT / "scripts" / "interpreters")], stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    fit = []
    for line in listed:
        version, _, path = line.split("\t")
        numbers = tuple(map(int, version.split(".")))
        if PYTHONS[0] <= numbers[:2] <= PYTHONS[1]:
            fit.append((numbers, path))
    if not fit:
        raise Impossible("no CPython 3.11 to 3.13 was found; name one with --python")
    return max(fit)[1]


def make_environment(base):
    """A virtual environment with what the workloads and peers need."""
    version = output_of(base, "-I", "-c", "import platform; print(platform.python_version())")
    if not version:
        raise Impossible(f"{base} does not run")
    root = cache() / f"bench-{version}"
    kit = Kit(python=str(root / "bin" / "python"))
    if not output_of(kit.python, "-I", "-c", "import pip; print(pip.__version__)"):
        say(f"bench: making {root}")
        made = subprocess.run([base, "-m", "venv", "--clear", str(root)], stdout=sys.stderr)
        if made.returncode != 0:
            raise Impossible(f"{base} cannot make a virtual environment; name another with --python")
    found = versions(kit.python)
    for name, wanted in PACKAGES.items():
        if found.get(name) != wanted:
            install(kit, name, wanted)
    kit.versions = {"CPython": version, **versions(kit.python)}
    for name in kit.versions:
        kit.missing.pop(name, None)
    return kit


def versions(python):
    return json.loads(output_of(python, "-I", "-c", VERSIONS, *PACKAGES) or "{}")


def install(kit, name, version):
    """One package; without it the rest is measured all the same."""
    say(f"bench: installing {name} {version}")
    command = [kit.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", f"{name}=={version}"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        kit.missing[name] = lines[-1] if lines else f"pip exited {done.returncode}"


# ---- Debian's packages -----------------------------------------------------


def unpack(root, packages):
    """Packages of Debian into `root`; why that is impossible, or nothing."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return "not installed, and there is no apt-get to bring it"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["apt-get", "download", *packages],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        archives = sorted(Path(folder).glob("*.deb"))
        root.mkdir(parents=True, exist_ok=True)
        if done.returncode != 0 or not archives:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            return f"apt-get download: {errors[0] if errors else 'failed'}"
        for archive in archives:
            if subprocess.run(["dpkg", "-x", str(archive), str(root)]).returncode != 0:
                return f"{archive.name} cannot be unpacked"
    return ""


def find_heaptrack(kit):
    path = shutil.which("heaptrack")
    if not path:
        root = cache() / "bench-debian"
        path = str(root / "usr" / "bin" / "heaptrack")
        if not os.path.exists(path):
            wanted = ["heaptrack", "libheaptrack"]
            depends = output_of("apt-cache", "depends", "heaptrack", "libheaptrack").splitlines()
            names = [line.split("Depends:")[1].strip() for line in depends if "Depends:" in line]
            wanted += sorted({name for name in names if name.startswith(("libboost", "libunwind"))})
            reason = unpack(root, wanted)
            if reason:
                kit.missing["heaptrack"] = reason
                return
    # Its interpreter may need libraries that were unpacked beside it.
    beside = Path(path).parent.parent / "lib" / f"{platform.machine()}-linux-gnu"
    with tempfile.TemporaryDirectory() as folder:
        works = subprocess.run(
            [path, "-o", f"{folder}/out", kit.python, "-c", "pass"],
            env={**os.environ, **library_path(beside)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if works.returncode != 0 or not any(Path(folder).iterdir()):
            kit.missing["heaptrack"] = (works.stderr.strip().splitlines() or ["does not run"])[-1]
            return
    kit.heaptrack = path
    kit.versions["heaptrack"] = output_of(path, "--version").replace("heaptrack", "").strip()


def library_path(folder):
    """The variable that makes unpacked libraries found; nothing for those of the system."""
    return {} if str(folder).startswith("/usr/") else {"LD_LIBRARY_PATH": str(folder)}


def find_jemalloc(kit):
    name = "libjemalloc.so.2"
    folder = Path("usr", "lib", f"{platform.machine()}-linux-gnu")
    path = Path("/") / folder / name
    if not path.exists():
        root = cache() / "bench-debian"
        path = root / folder / name
        reason = "" if path.exists() else unpack(root, ["libjemalloc2"])
        if reason:
            kit.missing["jemalloc"] = reason
            return
    with tempfile.TemporaryDirectory() as scratch:
        options = f"prof:true,prof_final:true,prof_prefix:{scratch}/out"
        subprocess.run(
            [shutil.which("true")],
            env={"LD_PRELOAD": str(path), "MALLOC_CONF": options},
            stderr=subprocess.DEVNULL,
        )
        if not any(Path(scratch).iterdir()):
            kit.missing["jemalloc"] = f"{path} was built without profiling"
            return
    kit.jemalloc = str(path)
    status = output_of("dpkg-query", "-W", "-f", "${Version}", "libjemalloc2")
    status = status or output_of("apt-cache", "show", "libjemalloc2")
    lines = [line.split(":", 1)[1].strip() for line in status.splitlines() if line.startswith("Version:")]
    kit.versions["jemalloc"] = lines[0] if lines else status.split("\n")[0]


# ---- pyshim ----------------------------------------------------------------


def build(kit, scratch, wanted):
    """Copies of library and reporter: somebody may build others meanwhile."""
    if wanted:
        say("bench: cargo build --release")
        if subprocess.run(["cargo", "build", "--release"], cwd=PROJECT, stdout=sys.stderr).returncode:
            raise Impossible("pyshim does not build")
    target = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    for name in ("libpyshim.so", "reporter"):
        if not (target / name).exists():
            raise Impossible(f"{target / name} is missing; run without --no-build")
    kit.library = shutil.copy(target / "libpyshim.so", scratch)
    kit.reporter = shutil.copy(target / "reporter", scratch)
    kit.versions = {"pyshim": pyshim_version(), **kit.versions}


def pyshim_version():
    version = ""
    for line in (PROJECT / "Cargo.toml").read_text().splitlines():
        if line.startswith("version"):
            version = line.split('"')[1]
    commit = output_of("git", "rev-parse", "--short", "HEAD")
    changed = "+changes" if output_of("git", "status", "--porcelain", "-uno") else ""
    return f"{version} ({commit}{changed})" if commit else version


def machine():
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
    }
