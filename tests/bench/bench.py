"""The measures of docs/performance.md. Each prints one line a suite: the figure, what it is held
against, taken on the same machine in the same run, and their ratio.

A measure is one function and one row of MEASURES."""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "blackbox"))
from installation import Installation  # noqa: E402

SUITES = ["aes256-kw", "aes256-gcm"]
WORKERS = max(2, os.cpu_count())
P1_ROWS = 200_000
P3_ROWS = 1_000_000
P3_BASE_ROWS = 10_000
P3_GROWN_MAX_BYTES = 16 << 20
# SoftHSM leaks at every unwrap, so a worker must be replaced now and then for its size to be bounded.
P3_WORKER_LIMIT = "24M"
REFERENCE_SECONDS = 4
IMPORT_CHUNK = 100_000


class BenchError(Exception):
    """A measurement that cannot be right."""


class Bench:
    def __init__(self, work, rows, runs):
        self.work, self.rows, self.runs = work, rows, runs
        self.prefix, self.build = work / "prefix", work / "build"
        say("building")
        for command in (["meson", "setup", self.build, ROOT, "--prefix", self.prefix, "--libdir", "lib",
                         "--buildtype", "release", "-Dtests=enabled"],
                        ["ninja", "-C", self.build],
                        ["meson", "install", "-C", self.build, "--no-rebuild"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BenchError(done.stdout[-3000:] + done.stderr[-3000:])

    @contextlib.contextmanager
    def installation(self, suite, **settings):
        """On disk, with the durable commits of every installation."""
        hsm = {"workers": str(WORKERS), **settings.pop("hsm", {})}
        it = Installation(prefix=self.prefix, directory=tempfile.mkdtemp(dir=self.work), hsm=hsm,
                          **settings)
        try:
            it.init("--suite", suite)
            it.start()
            it.create_app()
            yield it
        finally:
            it.close()

    def fill(self, it, rows):
        say(f"importing {rows} rows")
        for first in range(0, rows, IMPORT_CHUNK):
            lines = "".join(
                f'{{"app":"app","principal":"p{n:08d}","external_user":"e{n}","fields":'
                f'{{"user":"u{n}","password":"a password of {n:08d}"}}}}\n'
                for n in range(first, min(rows, first + IMPORT_CHUNK)))
            it.sso("cred", "import", "-", data=lines, check=0, timeout=3600)

    def rotate(self, it, suite, watch=lambda: None):
        """One rotation at full speed: rows a second from the first row to the durable last one."""
        number = it.sso("key", "generate", "--no-backup", "--suite", suite, check=0).json["number"]
        it.api("POST", "/v1/rotation", {"generation": number, "full_speed": True}, status=202)
        began = None
        with contextlib.closing(it.connection()) as connection:
            while True:
                status = connection.call("GET", "/v1/rotation").json
                now = time.monotonic()
                if began is None and (status["phase"] in ("stream", "finish") or status["done"]):
                    began = now - (status["done"] / status["rows_per_second"]
                                   if status["done"] and status["rows_per_second"] else 0)
                if status["state"] not in ("preparing", "running"):
                    break
                watch()
                # Often at both ends, seldom between: asking costs what is being measured.
                left = (status["total"] - status["done"]) / max(1, status["rows_per_second"])
                time.sleep(min(0.5, max(0.02, left / 2)) if began else 0.02)
        if status["state"] != "completed" or status["failed"]:
            raise BenchError(f"the rotation ended {status}")
        return status["done"] / (now - began)

    def reference(self, it, suite):
        """The same PKCS#11 calls alone, in as many processes as there are workers."""
        done = subprocess.run(
            [self.build / "tests" / "bench" / "p11_reference", "--module", it.settings["hsm"]["module"],
             "--token", it.token.label, "--pin-file", it.token.pin_file, "--suite", suite,
             "--processes", str(WORKERS), "--seconds", str(REFERENCE_SECONDS)],
            env=it.token.environment, capture_output=True, text=True, check=False)
        found = re.search(r"rows_per_second=(\d+)", done.stdout)
        if done.returncode != 0 or not found:
            raise BenchError(f"p11_reference: {done.stdout}{done.stderr}")
        return int(found.group(1))


def p1(bench):
    """rows rewrapped a second, SQLite on disk / the same PKCS#11 calls in as many processes"""
    rows = bench.rows or P1_ROWS
    for suite in SUITES:
        with bench.installation(suite) as it:
            bench.fill(it, rows)
            ours, limit = [], []
            for run in range(bench.runs):
                limit.append(bench.reference(it, suite))
                ours.append(bench.rotate(it, suite))
                say(f"P1 {suite} run {run + 1}: ours {ours[-1]:.0f}/s, limit {limit[-1]}/s")
        # Of pairs measured one right after the other: what else the machine does hits both sides.
        ratio = statistics.median(mine / bound for mine, bound in zip(ours, limit))
        print(f"P1 {suite} ratio={ratio:.2f} ours={statistics.median(ours):.0f}/s"
              f" limit={statistics.median(limit):.0f}/s"
              f" runs={bench.runs} rows={rows} workers={WORKERS}", flush=True)
        if ratio > 1.05:
            raise BenchError("a ratio above 1.05 means that the limit was not measured right")


class Memory:
    """The highest resident size of the custodian and of any worker, replaced ones included."""

    def __init__(self, it):
        self.it, self.custodian, self.worker = it, 0, 0

    def sample(self):
        self.custodian = max(self.custodian, high_water_bytes(self.it.custodian.pid))
        for pid in self.it.worker_pids():
            self.worker = max(self.worker, high_water_bytes(pid))


def high_water_bytes(pid):
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found.group(1)) * 1024 if found else 0
    return 0


def p3(bench):
    """memory of custodian and workers over a rotation of 1 M rows / of 10 k"""
    rows = bench.rows or P3_ROWS
    for suite in SUITES:
        measured = []
        for count in (P3_BASE_ROWS, rows):
            with bench.installation(suite, hsm={"worker_memory_limit": P3_WORKER_LIMIT}) as it:
                bench.fill(it, count)
                it.restart()
                memory = Memory(it)
                bench.rotate(it, suite, memory.sample)
                memory.sample()
                measured.append(memory)
        small, large = measured
        for name in ("custodian", "worker"):
            before, after = getattr(small, name), getattr(large, name)
            print(f"P3 {suite} {name} ratio={after / before:.2f} ours={after // 1024}KiB"
                  f" limit={before // 1024}KiB runs=1 rows={rows} grown_bytes={after - before}",
                  flush=True)
            if after - before > P3_GROWN_MAX_BYTES:
                raise BenchError(f"the {name} grew by more than {P3_GROWN_MAX_BYTES >> 20} MiB")


# Later measures join here; an id that is not here yet is refused.
MEASURES = {"P1": p1, "P3": p3}


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    listing = "\n".join(f"  {name}  {function.__doc__}" for name, function in MEASURES.items())
    parser = argparse.ArgumentParser(prog="scripts/bench", epilog=listing,
                                     description="Prints ratios, one line a suite.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("id", nargs="*", type=str.upper, help="measures; all where none is named")
    parser.add_argument("--rows", type=int, help="rows instead of the measure's own number")
    parser.add_argument("--runs", type=int, default=5, help="runs of which the median counts")
    arguments = parser.parse_args()
    for name in arguments.id:
        if name not in MEASURES:
            parser.error(f"{name} is not available in this version: there are {', '.join(MEASURES)}")
    if (arguments.rows or 1) < 1 or arguments.runs < 1:
        parser.error("--rows and --runs take a number above 0")
    # /var/tmp is on disk where /tmp may be memory.
    work = Path(tempfile.mkdtemp(prefix="sso-hsm-bench-", dir="/var/tmp"))
    work.chmod(0o755)
    try:
        bench = Bench(work, arguments.rows, arguments.runs)
        for name in arguments.id or MEASURES:
            MEASURES[name](bench)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
