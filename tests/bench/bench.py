"""The measures of docs/performance.md. Each prints one line a suite: the figure, what it is held
against, taken on the same machine in the same run, and their ratio.

A measure is one function and one row of MEASURES."""

import argparse
import contextlib
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "blackbox"))
from installation import Installation, NssToken  # noqa: E402

SUITES = ["aes256-kw", "aes256-gcm"]
WORKERS = max(2, os.cpu_count())
P1_ROWS = 200_000
P3_ROWS = 1_000_000
P3_BASE_ROWS = 10_000
P3_GROWN_MAX_BYTES = 16 << 20
P4_ROWS = 2048
P4_CONNECTIONS = 32
P4_SECONDS = 4
P5_ROWS = 100_000
P5_CLIENTS = 4
P5_LOOKUPS_PER_SECOND = 100  # of each client: a service that is used, not one that is stormed
P5_SECONDS = 8
P6_ROWS = 120_000
P6_SESSIONS = 32
P6_CALL_SECONDS = 0.001
P6_WORKERS = 8
P6_CALLS = {"aes256-kw": 3, "aes256-gcm": 4}  # of one rewrap (pkcs11/suite_*.c)
P7_ROWS = 1_000_000
REFERENCE_SECONDS = 4
RATIO_MAX = 1.05  # above it what is called a limit was none
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
    def installation(self, suite, make_token=None, **settings):
        """On disk, with the durable commits of every installation. `make_token`: of its folder."""
        hsm = {"workers": str(WORKERS), **settings.pop("hsm", {})}
        directory = Path(tempfile.mkdtemp(dir=self.work))
        token = make_token(directory / "token") if make_token else None
        it = Installation(prefix=self.prefix, directory=directory, token=token, hsm=hsm, **settings)
        try:
            it.init("--suite", suite)
            it.start()
            it.create_app()
            yield it
        finally:
            it.close()

    def store_reference(self, it):
        """SQLite alone, over a copy of the same rows."""
        copy = it.directory / "copy.db"
        with it.sql() as sql, sqlite3.connect(copy) as target:
            sql.backup(target)
        target.close()
        done = subprocess.run([self.build / "tests" / "bench" / "store_reference", copy, "0"],
                              capture_output=True, text=True, check=False)
        found = re.search(r"rows_per_second=(\d+)", done.stdout)
        for path in it.directory.glob("copy.db*"):
            path.unlink()
        if done.returncode != 0 or not found:
            raise BenchError(f"store_reference: {done.stdout}{done.stderr}")
        return int(found.group(1))

    def fill(self, it, rows):
        say(f"importing {rows} rows")
        for first in range(0, rows, IMPORT_CHUNK):
            lines = "".join(
                f'{{"app":"app","principal":"p{n:08d}","external_user":"e{n}","fields":'
                f'{{"user":"u{n}","password":"a password of {n:08d}"}}}}\n'
                for n in range(first, min(rows, first + IMPORT_CHUNK)))
            it.sso("cred", "import", "-", data=lines, check=0, timeout=3600)

    def rotate(self, it, suite, watch=lambda: None, full_speed=True):
        """One rotation: rows a second from the first row to the durable last one."""
        number = it.sso("key", "generate", "--no-backup", "--suite", suite, check=0).json["number"]
        it.api("POST", "/v1/rotation", {"generation": number, "full_speed": full_speed}, status=202)
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

    def rotate_and_tell(self, it, suite):
        """As rotate, and on standard error where the processor's time went."""
        custodian, workers = processor_seconds(it.custodian.pid), Workers(it)
        rate = self.rotate(it, suite, workers.sample)
        workers.sample()
        rows = it.rotation()["done"]
        mine = (processor_seconds(it.custodian.pid) - custodian) / rows * 1e6
        say(f"   custodian {mine:.2f} us a row, workers {workers.spent() / rows * 1e6:.2f} us a row")
        return rate

    def reference(self, it, suite):
        """The same PKCS#11 calls alone, in as many processes as there are workers."""
        done = subprocess.run(
            [self.build / "tests" / "bench" / "p11_reference", "--module", it.settings["hsm"]["module"],
             "--token", it.token.label, "--pin-file", it.token.pin_file, "--suite", suite,
             "--processes", str(WORKERS), "--seconds", str(REFERENCE_SECONDS),
             *(["--init-args", it.token.init_args] if hasattr(it.token, "init_args") else [])],
            env={**os.environ, **it.token.variables}, capture_output=True, text=True, check=False)
        found = re.search(r"rows_per_second=(\d+)", done.stdout)
        if done.returncode != 0 or not found:
            raise BenchError(f"p11_reference: {done.stdout}{done.stderr}")
        return int(found.group(1))


    def program(self, name, *arguments, figure, environment=None):
        """The figure that one of the programs of tests/bench prints."""
        done = subprocess.run([self.build / "tests" / "bench" / name, *map(str, arguments)],
                              env={**os.environ, **(environment or {})}, capture_output=True,
                              text=True, check=False)
        found = re.search(figure + r"=(\d+)", done.stdout)
        if done.returncode != 0 or not found:
            raise BenchError(f"{name}: {done.stdout}{done.stderr}")
        return int(found.group(1))

    def requests(self, it, what):
        return self.program("http_load", it.socket, P4_CONNECTIONS, P4_SECONDS, what, P4_ROWS,
                            figure="requests_per_second")

    def commits(self, it):
        folder = Path(tempfile.mkdtemp(dir=it.directory))
        return self.program("commit_reference", folder, P4_CONNECTIONS, P4_SECONDS,
                            figure="rows_per_second")

    def releases(self, it, suite):
        return self.program(
            "p11_reference", "--module", it.settings["hsm"]["module"], "--token", it.token.label,
            "--pin-file", it.token.pin_file, "--suite", suite, "--operation", "release",
            "--processes", WORKERS, "--seconds", P4_SECONDS, figure="rows_per_second",
            environment=it.token.variables)


def p1(bench):
    """rows rewrapped a second, SQLite on disk / the same PKCS#11 calls in as many processes"""
    rows = bench.rows or P1_ROWS
    for suite in SUITES:
        with bench.installation(suite) as it:
            bench.fill(it, rows)
            ours, limit = [], []
            for run in range(bench.runs):
                limit.append(bench.reference(it, suite))
                ours.append(bench.rotate_and_tell(it, suite))
                say(f"P1 {suite} run {run + 1}: ours {ours[-1]:.0f}/s, limit {limit[-1]}/s")
        # Of pairs measured one right after the other: what else the machine does hits both sides.
        ratio = statistics.median(mine / bound for mine, bound in zip(ours, limit))
        print(f"P1 {suite} ratio={ratio:.2f} ours={statistics.median(ours):.0f}/s"
              f" limit={statistics.median(limit):.0f}/s"
              f" runs={bench.runs} rows={rows} workers={WORKERS}", flush=True)
        check_limit(ratio)


def check_limit(ratio):
    if ratio > RATIO_MAX:
        raise BenchError(f"a ratio above {RATIO_MAX} means that the limit was not measured right")


def p2(bench):
    """rows rewrapped a second on NSS softoken / a bare loop of scan and compare-and-swap"""
    rows = bench.rows or P1_ROWS
    if not NssToken.is_installed():
        raise BenchError("NSS softoken is not installed")
    for suite in SUITES:
        with bench.installation(suite, NssToken) as it:
            bench.fill(it, rows)
            ours, limit = [], []
            for run in range(bench.runs):
                limit.append(bench.store_reference(it))
                ours.append(bench.rotate_and_tell(it, suite))
                say(f"P2 {suite} run {run + 1}: ours {ours[-1]:.0f}/s, limit {limit[-1]}/s,"
                    f" bare token {bench.reference(it, suite)}/s")
        ratio = statistics.median(mine / bound for mine, bound in zip(ours, limit))
        print(f"P2 {suite} ratio={ratio:.2f} ours={statistics.median(ours):.0f}/s"
              f" limit={statistics.median(limit):.0f}/s"
              f" runs={bench.runs} rows={rows} workers={WORKERS}", flush=True)
        check_limit(ratio)


def processor_seconds(pid):
    """User and system time of a process that may be gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Workers:
    """Processor time of all workers, replaced ones included as far as they were seen."""

    def __init__(self, it):
        self.it = it
        self.before = {pid: processor_seconds(pid) for pid in it.worker_pids()}
        self.now = dict(self.before)

    def sample(self):
        for pid in self.it.worker_pids():
            self.now[pid] = max(self.now.get(pid, 0), processor_seconds(pid))

    def spent(self):
        return sum(self.now.values()) - sum(self.before.values())


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
            with bench.installation(suite) as it:
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


class Lookups:
    """Clients that look up at their own pace while something else happens; their latencies."""

    def __init__(self, it, rows):
        self.clients = [
            subprocess.Popen([sys.executable, Path(__file__).with_name("lookups.py"), it.socket,
                              str(rows), str(P5_LOOKUPS_PER_SECOND), str(n)],
                             stdout=subprocess.PIPE, text=True) for n in range(P5_CLIENTS)]

    def end(self):
        """Milliseconds at the 99th percentile, and how many there were."""
        taken = []
        for client in self.clients:
            client.terminate()
        for client in self.clients:
            taken += [float(line) for line in client.communicate()[0].split()]
            if client.returncode != 0:
                raise BenchError("a client met a lookup that failed")
        if len(taken) < 100:
            raise BenchError(f"{len(taken)} lookups are too few: take more --rows")
        taken.sort()
        return taken[len(taken) * 99 // 100], len(taken)


def p4_line(bench, it, suite, kind, limit_of):
    """Pairs, one right after the other: what else the machine does hits both sides."""
    ours, limit = [], []
    for run in range(bench.runs):
        limit.append(limit_of())
        ours.append(bench.requests(it, "lookup"))
        say(f"P4 {kind} {suite} run {run + 1}: ours {ours[-1]}/s, limit {limit[-1]}/s")
    ratio = statistics.median(mine / bound for mine, bound in zip(ours, limit))
    print(f"P4 {kind} {suite} ratio={ratio:.2f} ours={statistics.median(ours):.0f}/s"
          f" limit={statistics.median(limit):.0f}/s runs={bench.runs}"
          f" connections={P4_CONNECTIONS} workers={WORKERS}", flush=True)
    check_limit(ratio)


def p4(bench):
    """lookups a second at 32 connections / health replies, group commits, releases by the token"""
    for suite in SUITES:
        with bench.installation(suite) as it:
            bench.fill(it, P4_ROWS)

            def health():
                return bench.requests(it, "health")

            def change(path, body):
                it.api("PATCH", path, body, status=200)

            change("/v1/settings", {"audit.lookups": "relaxed"})
            bench.requests(it, "lookup")  # every row key is in the cache from here on
            p4_line(bench, it, suite, "cached-relaxed", health)
            change("/v1/settings", {"audit.lookups": "required"})
            p4_line(bench, it, suite, "cached-audited", lambda: min(health(), bench.commits(it)))
            change("/v1/settings", {"audit.lookups": "relaxed"})
            change("/v1/apps/app", {"cache": False})
            p4_line(bench, it, suite, "uncached", lambda: bench.releases(it, suite))


def p5(bench):
    """99th percentile of lookups during a rotation, yielding and at full speed / without one"""
    rows = bench.rows or P5_ROWS
    for suite in SUITES:
        with bench.installation(suite) as it:
            bench.fill(it, rows)
            for name, full_speed in (("yielding", False), ("full-speed", True)):
                during, quiet = [], []
                for run in range(bench.runs):
                    lookups = Lookups(it, rows)
                    time.sleep(P5_SECONDS)
                    quiet.append(lookups.end()[0])
                    lookups = Lookups(it, rows)
                    rate = bench.rotate(it, suite, full_speed=full_speed)
                    latency, count = lookups.end()
                    during.append(latency)
                    say(f"P5 {suite} {name} run {run + 1}: {latency:.2f} ms of {count},"
                        f" quiet {quiet[-1]:.2f} ms, {rate:.0f} rows/s")
                ratio = statistics.median(mine / base for mine, base in zip(during, quiet))
                print(f"P5 {name} {suite} ratio={ratio:.2f} ours={statistics.median(during):.2f}ms"
                      f" limit={statistics.median(quiet):.2f}ms runs={bench.runs} rows={rows}"
                      f" lookups_per_second={P5_CLIENTS * P5_LOOKUPS_PER_SECOND}", flush=True)


def hsm_seconds(it):
    """How long the sessions of the token were at work, all together."""
    text = it.api("GET", "/metrics", status=200).body.decode()
    return sum(map(float, re.findall(r"^sso_hsm_call_seconds_total\{.*\} (\S+)", text, re.MULTILINE)))


def p6(bench):
    """rewrap on a token with 1 ms a call and 32 sessions / sessions by calls a row and 1 ms"""
    rows = bench.rows or P6_ROWS
    if not NssToken.is_installed():
        raise BenchError("NSS softoken is not installed")
    for suite in SUITES:
        calls = P6_CALLS[suite]
        limit = P6_SESSIONS / (calls * P6_CALL_SECONDS)
        hsm = {"workers": str(P6_WORKERS), "sessions_per_worker": str(P6_SESSIONS // P6_WORKERS)}
        with bench.installation(suite, NssToken, hsm=hsm) as it:
            bench.fill(it, rows)  # before the token is slow
            it.stop()
            environment = [it.settings["hsm"].get("environment"),
                           f"SLOW_MODULE={it.settings['hsm']['module']}",
                           f"SLOW_MICROSECONDS={int(P6_CALL_SECONDS * 1e6)}"]
            it.write_config(hsm={"module": bench.build / "tests" / "bench" / "slow-module.so",
                                 "environment": ",".join(filter(None, environment))})
            it.start()
            ours = []
            for run in range(bench.runs):
                before = hsm_seconds(it)
                ours.append(bench.rotate_and_tell(it, suite))
                busy = (hsm_seconds(it) - before) / (rows / ours[-1] * P6_SESSIONS)
                say(f"P6 {suite} run {run + 1}: ours {ours[-1]:.0f}/s, limit {limit:.0f}/s,"
                    f" sessions at work {busy:.0%} of the time")
        rate = statistics.median(ours)
        print(f"P6 {suite} ratio={rate / limit:.2f} ours={rate:.0f}/s limit={limit:.0f}/s"
              f" runs={bench.runs} rows={rows} sessions={P6_SESSIONS}", flush=True)
        check_limit(rate / limit)


def p7(bench):
    """time a row of a rotation of 1 M rows / of 100 k rows"""
    rows = bench.rows or P7_ROWS
    base = max(1, rows // 10)
    for suite in SUITES:
        with bench.installation(suite) as small, bench.installation(suite) as large:
            bench.fill(small, base)
            bench.fill(large, rows)
            ratios, ours, limit = [], [], []
            for run in range(bench.runs):
                limit.append(1e6 / bench.rotate(small, suite))
                ours.append(1e6 / bench.rotate(large, suite))
                ratios.append(ours[-1] / limit[-1])
                say(f"P7 {suite} run {run + 1}: {ours[-1]:.2f} us a row, {limit[-1]:.2f} at {base}")
        print(f"P7 {suite} ratio={statistics.median(ratios):.2f} ours={statistics.median(ours):.2f}us"
              f" limit={statistics.median(limit):.2f}us runs={bench.runs} rows={rows}", flush=True)


# A measure is one row here; DESIGN has one more, which comes with what it measures.
MEASURES = {"P1": p1, "P2": p2, "P3": p3, "P4": p4, "P5": p5, "P6": p6, "P7": p7}
LATER = {"P8": "fail-over"}


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
        if name in LATER:
            parser.error(f"{name} ({LATER[name]}) is not available in this version")
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
