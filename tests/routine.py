"""The routine of tests: each step is one function that returns what passed, failed and was skipped.
Everything is built and installed in a new directory below /tmp; the tree stays as it is."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ_SECONDS = 8
PROCESSORS = min(os.cpu_count() or 1, 4)
# Tests wait more than they compute: twice as many run beside each other as there are processors.
BESIDE_EACH_OTHER = 2 * PROCESSORS


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Count(self.passed + other.passed, self.failed + other.failed,
                     self.skipped + other.skipped)

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class Failed(Exception):
    """A command that had to succeed did not; what it said has been printed."""


def run(command, check=True, quiet=True, **options):
    """Prints the output of a command that fails, and no other unless told to."""
    options.setdefault("cwd", "/")
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE if quiet else None,
                          stderr=subprocess.STDOUT if quiet else None, text=True, check=False,
                          **options)
    if check and done.returncode != 0:
        print("\n".join((done.stdout or "").splitlines()[-60:]))
        raise Failed(f"{' '.join(map(str, command[:4]))} …: exit {done.returncode}")
    return done


class Routine:
    def __init__(self, work):
        self.work = work
        self.prefix = work / "prefix"
        self.fault_prefix = work / "fault-prefix"
        self.sanitized_prefix = work / "sanitized-prefix"

    # --- building ---
    def setup(self, name, *options, prefix=None, compiler="gcc"):
        build = self.work / name
        run(["meson", "setup", build, ROOT, "--prefix", prefix or self.prefix, "--libdir", "lib",
             "-Dwerror=true", *options], env={**os.environ, "CC": compiler})
        return build

    def build(self, name, *options, install=False, **how):
        build = self.setup(name, *options, **how)
        run(["ninja", "-C", build])
        if install:
            run(["meson", "install", "-C", build, "--no-rebuild"])
        return build

    # --- steps ---
    def step_format(self):
        """Every source as .clang-format has it."""
        count = Count()
        sources = [path for part in ("common", "pkcs11", "store", "rewrap", "client", "custodian",
                                     "cli", "tests") for path in sorted((ROOT / part).rglob("*.[ch]"))]
        with ThreadPoolExecutor(PROCESSORS) as pool:
            for path, is_formatted in zip(sources, pool.map(formatted, sources)):
                if is_formatted:
                    count.passed += 1
                else:
                    count.failed += 1
                    print(f"{path.relative_to(ROOT)}: not as clang-format has it")
        return count

    def step_layers(self):
        """Who may include whom (scripts/check-layers)."""
        done = run([ROOT / "scripts" / "check-layers"], check=False, quiet=False)
        return Count(passed=1) if done.returncode == 0 else Count(failed=1)

    def step_clang(self):
        """The tree compiles with clang too, warnings as errors."""
        self.build("clang", "-Doptimization=0", "-Ddebug=false", compiler="clang")
        return Count(passed=1)

    def step_unit(self):
        """gcc, warnings as errors; unit and contract tests."""
        build = self.build("gcc", install=True)
        return meson_test(build)

    def step_destdir(self):
        """meson install obeys DESTDIR, and what is installed there is all of it."""
        build = self.work / "gcc"
        if not build.exists():
            self.build("gcc", install=True)
        stage = self.work / "stage"
        run(["meson", "install", "-C", build, "--no-rebuild"], env={**os.environ, "DESTDIR": str(stage)})
        staged = stage / self.prefix.relative_to("/")
        names = {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()}
        wanted = {"bin/sso-custodian", "bin/sso-hsm", "libexec/sso-hsm/sso-hsm-worker"}
        installed = {str(path.relative_to(self.prefix)) for path in self.prefix.rglob("*")
                     if path.is_file()}
        outside = [path for path in stage.rglob("*") if path.is_file() and staged not in path.parents]
        if wanted <= names and names == installed and not outside:
            return Count(passed=1)
        print(f"missing {wanted - names}, differs {names ^ installed}, outside the prefix {outside}")
        return Count(failed=1)

    def build_both(self):
        """With and without fault points, where an earlier step has not built them."""
        if not self.prefix.exists():
            self.build("gcc", install=True)
        if not self.fault_prefix.exists():
            self.build("fault", "-Dfault_points=true", "-Dtests=disabled", install=True,
                       prefix=self.fault_prefix)

    def step_blackbox(self):
        """The installed programs, driven as users do."""
        self.build_both()
        return self.pytest("blackbox", {"SSO_HSM_PREFIX": self.prefix,
                                        "SSO_HSM_FAULT_PREFIX": self.fault_prefix,
                                        "SSO_HSM_PRELOADS": self.work / "gcc/tests/stress"})

    def step_sanitized(self):
        """All of it again under AddressSanitizer and UndefinedBehaviorSanitizer."""
        build = self.build("sanitized", "-Db_sanitize=address,undefined", "-Db_lundef=false",
                           "-Dfault_points=true", install=True, prefix=self.sanitized_prefix)
        reports = self.work / "reports"
        reports.mkdir()
        # Leaks are found by ptrace, which processes that are not dumpable allow to root alone.
        leaks = int(os.geteuid() == 0)
        sanitizers = {
            "ASAN_OPTIONS": f"detect_leaks={leaks}:abort_on_error=1:disable_coredump=0"
                            f":log_path={reports}/report",
            "LSAN_OPTIONS": f"suppressions={ROOT}/tests/leaks.supp:print_suppressions=0",
            "UBSAN_OPTIONS": f"halt_on_error=1:print_stacktrace=1:log_path={reports}/report"}
        unit = meson_test(build, {**sanitizers, "ASAN_OPTIONS": sanitizers["ASAN_OPTIONS"].split(
            ":log_path")[0], "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
        reports.chmod(0o1777)
        return unit + self.pytest("sanitized", {
            **sanitizers, "SSO_HSM_PREFIX": self.sanitized_prefix, "SSO_HSM_SANITIZED": "1",
            "SSO_HSM_FAULT_PREFIX": self.sanitized_prefix})

    def step_fuzz(self):
        """A short run of each fuzzer (tests/fuzz)."""
        build = self.setup("fuzz", "-Dc_args=-fsanitize=fuzzer-no-link", "-Db_lundef=false",
                           "-Db_sanitize=address,undefined", "-Dtests=enabled", compiler="clang")
        run(["ninja", "-C", build, "fuzz"])
        fuzzers = [path for path in sorted((build / "tests" / "fuzz").glob("fuzz_*"))
                   if os.access(path, os.X_OK) and path.is_file()]
        with ThreadPoolExecutor(PROCESSORS) as pool:
            return sum(pool.map(self.fuzz, fuzzers), Count())

    def fuzz(self, fuzzer):
        corpus = self.work / "corpus" / fuzzer.name
        corpus.mkdir(parents=True)
        seeds = ROOT / "tests" / "fuzz" / "corpus" / fuzzer.name
        done = run([fuzzer, f"-max_total_time={FUZZ_SECONDS}", "-print_final_stats=1", "-timeout=10",
                    "-rss_limit_mb=1024", f"-artifact_prefix={self.work}/", corpus,
                    *([seeds] if seeds.exists() else [])], check=False)
        runs = re.search(r"number_of_executed_units:\s+(\d+)", done.stdout)
        print(f"  {fuzzer.name}: {runs.group(1) if runs else 'no'} inputs")
        if done.returncode == 0:
            return Count(passed=1)
        print("\n".join(done.stdout.splitlines()[-40:]))
        return Count(failed=1)

    def step_stress(self):
        """Rotations, clients, kills and full disks all at once (tests/stress); --long: ten minutes."""
        self.build_both()
        done = run(["/usr/bin/python3", "-B", ROOT / "tests" / "stress" / "stress.py"], check=False,
                   quiet=False, env={
                       **os.environ, "SSO_HSM_PREFIX": str(self.fault_prefix), "SSO_HSM_FULL_DISK":
                       str(self.work / "gcc" / "tests" / "stress" / "libfull_disk.so")})
        return Count(passed=1) if done.returncode == 0 else Count(failed=1)

    def pytest(self, name, environment, *options):
        report = self.work / f"{name}.xml"
        run(["/usr/bin/python3", "-B", "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
             "--tb=short", "-rfE", "--durations=8", f"--junitxml={report}",
             "-n", str(BESIDE_EACH_OTHER), "--dist", "loadfile", *options,
             ROOT / "tests" / "blackbox"],
            check=False, quiet=False, cwd=ROOT / "tests" / "blackbox",
            env={**os.environ, **{key: str(value) for key, value in environment.items()}})
        if not report.exists():
            raise Failed("pytest wrote no report")
        suite = ElementTree.parse(report).getroot().find("testsuite").attrib
        failed = int(suite["failures"]) + int(suite["errors"])
        skipped = int(suite["skipped"])
        return Count(int(suite["tests"]) - failed - skipped, failed, skipped)


def formatted(path):
    return run(["clang-format-14", "--dry-run", "--Werror", path], check=False,
               cwd=ROOT).returncode == 0


def meson_test(build, environment=None):
    """cmocka's own counts where a program printed them; else the program is one test."""
    run(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", "--timeout-multiplier",
         "5", "--num-processes", str(BESIDE_EACH_OTHER)], check=False, quiet=False, env={**os.environ, **(environment or {})})
    count = Count()
    log = build / "meson-logs" / "testlog.txt"
    if not log.exists():
        return count
    for part in re.split(r"^=+ \d+/\d+ =+$", log.read_text(errors="replace"), flags=re.M)[1:]:
        part = part.split("\n\nOk: ")[0]
        result = re.search(r"^result:\s+(.*)$", part, re.M)
        cases = {word: sum(map(int, re.findall(rf"^\[ +{word} +\] (\d+) test", part, re.M)))
                 for word in ("PASSED", "FAILED", "SKIPPED")}
        here = Count(cases["PASSED"], cases["FAILED"], cases["SKIPPED"])
        bad = result is None or not re.match(r"exit status (0|77)\b", result.group(1))
        if here == Count():
            here = Count(failed=1) if bad else Count(skipped=1) if "77" in result.group(1) else \
                Count(passed=1)
        elif bad and here.failed == 0:
            here.failed = 1
        count += here
    return count


def main():
    steps = {name.removeprefix("step_"): getattr(Routine, name) for name in vars(Routine)
             if name.startswith("step_")}
    parser = argparse.ArgumentParser(prog="scripts/test", description="Runs all tests, or some steps.")
    parser.add_argument("--list", action="store_true", help="list the steps and end")
    parser.add_argument("--keep", action="store_true", help="keep what was built, and say where")
    parser.add_argument("--long", action="store_true", help="the long forms of the tests: tens of"
                        " minutes (SSO_HSM_LONG=1 in the environment of every test)")
    parser.add_argument("step", nargs="*")
    arguments = parser.parse_args()
    unknown = set(arguments.step) - steps.keys()
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}: there are {', '.join(steps)}")
    if arguments.list:
        for name, function in steps.items():
            print(f"{name:10} {function.__doc__.splitlines()[0]}")
        return 0

    # Set by the switch alone: a variable left over in a shell does not make the routine long.
    os.environ.pop("SSO_HSM_LONG", None)
    if arguments.long:
        os.environ["SSO_HSM_LONG"] = "1"
    work = Path(tempfile.mkdtemp(prefix="sso-hsm-build-"))
    work.chmod(0o755)  # tests run programs from here as other users
    routine, total = Routine(work), Count()
    try:
        for name in arguments.step or steps:
            print(f"\n== {name}: {steps[name].__doc__.splitlines()[0]}", flush=True)
            began = time.monotonic()
            try:
                count = steps[name](routine)
            except Failed as failure:
                print(failure)
                count = Count(failed=1)
            print(f"   {name}: {count} ({time.monotonic() - began:.0f} s)", flush=True)
            total += count
    finally:
        if arguments.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
