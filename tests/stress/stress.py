"""Rotation after rotation while eight clients write, read and delete, and while everything that can
happen to such an installation happens: kill -9 of custodian and workers, at random and at numbered
points, SIGSTOP and SIGCONT, a disk that is full at some write. Afterwards every acknowledged write
is there, nothing deleted is back, every row opens, the audit holds.

    stress.py [--seconds N] [--rows N] [--seed N] [--suite S] [--every-point]

SSO_HSM_PREFIX: a build with fault points.

Prints the counts; exit 1 where anything is wrong."""

import argparse
import contextlib
import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "blackbox"))
import traffic  # noqa: E402
from installation import Installation, password_of, principal_of, wait_for  # noqa: E402
from preloads import FullDisk  # noqa: E402

CLIENTS = 8
READS = "0.4"
SUITES = ("aes256-kw", "aes256-gcm")
POINTS = ("rotation.prepare", "rotation.before-switch", "rotation.after-switch",
          "rotation.batch-moved", "rotation.before-commit", "rotation.after-commit",
          "rotation.before-finish", "rotation.after-finish", "store.commit", "store.committed",
          "write.wrapped", "write.committed")
# As long as one waits for what must come: it only ends a stress that hangs.
PATIENCE_SECONDS = 300
# A point that is not passed in so long (a rotation takes longer) is left for another time.
POINT_SECONDS = 20
UNREACHABLE = (OSError, http.client.HTTPException, ValueError)


def rotation_now(it):
    """None where the service is up and cannot tell yet."""
    reply = it.api("GET", "/v1/rotation")
    return reply.json if reply.status == 200 else None


class Rotations(threading.Thread):
    """Starts the next one as soon as there is none; no two are alike."""

    def __init__(self, stress):
        super().__init__(daemon=True)
        self.stress, self.over, self.completed, self.wrong = stress, threading.Event(), set(), []

    def run(self):
        while not self.over.wait(0.1):
            try:
                self.look()
            except UNREACHABLE:
                pass
            except Exception as error:  # else nobody would start another, and nobody would know
                self.wrong.append(f"rotations are watched no more: {error!r}")
                self.over.set()

    def look(self):
        status = rotation_now(self.stress.it)
        if status is None or status["state"] in ("preparing", "running", "paused"):
            return
        if status["state"] == "completed":
            self.completed.add(status["to"])
        elif status["state"] != "none":
            self.wrong.append(f"a rotation ended {status}")
            self.over.set()
            return
        rng = self.stress.rng
        self.stress.it.api("POST", "/v1/rotation", {
            "no_backup": True, "full_speed": rng.random() < 0.7,
            "verify": "full" if rng.random() < 0.2 else "sample"})


class Stress:
    def __init__(self, it, arguments):
        self.it, self.rows, self.seconds = it, arguments.rows, arguments.seconds
        self.every_point = arguments.every_point
        self.rng = random.Random(arguments.seed)
        self.disk = FullDisk(it)
        self.counts = dict.fromkeys(
            ("custodian_kills", "kills_in_a_rotation", "worker_kills", "kills_at_a_point",
             "custodian_stops", "worker_stops", "full_disks"), 0)
        self.points = set()
        self.journals = [it.directory / f"journal{n}" for n in range(CLIENTS)]

    # --- what happens ---
    def environment(self, fault=None):
        shim = os.environ["SSO_HSM_FULL_DISK"]
        environment = {"LD_PRELOAD": shim, "FULL_DISK": str(self.disk.path)}
        return {**environment, **({"SSO_HSM_FAULT": fault} if fault else {})}

    def start(self, fault=None):
        self.it.start(wait=None, environment=self.environment(fault))

    def settled_workers(self):
        """The workers, once all of them serve. SoftHSM loses a token whose file a process was
        killed over, and C_Login writes it: so nobody is killed who may be at that."""
        def settled():
            with contextlib.suppress(*UNREACHABLE):
                pids = self.it.worker_pids()
                workers = self.it.api("GET", "/v1/status").json["workers"]
                if workers["ready"] == workers["wanted"] == len(pids):
                    return pids
            return None
        return wait_for(settled, "all workers serve", PATIENCE_SECONDS)

    def in_rotation(self):
        with contextlib.suppress(*UNREACHABLE):
            status = rotation_now(self.it) or {"state": "none"}
            return status["state"] == "running" and 0 < status["done"] < status["total"]
        return False

    def kill_custodian(self):
        self.settled_workers()
        inside = self.in_rotation()
        self.it.kill()
        self.counts["custodian_kills"] += 1
        self.counts["kills_in_a_rotation"] += inside
        self.start()

    def kill_worker(self):
        with contextlib.suppress(ProcessLookupError):  # the service may have replaced it just now
            os.kill(self.rng.choice(self.settled_workers()), signal.SIGKILL)
            self.counts["worker_kills"] += 1

    def kill_at_point(self, patience=POINT_SECONDS):
        """The next custodian kills itself there; not in its first moments, since workers log in."""
        self.settled_workers()
        self.it.kill()
        point = self.rng.choice(sorted(set(POINTS) - self.points) or POINTS)
        passage = 1 if point.startswith("rotation.") else self.rng.randint(40, 120)
        if self.dies(f"{point}:kill:{passage}", patience):
            self.counts["kills_at_a_point"] += 1
            self.points.add(point)
        else:
            self.settled_workers()
            self.it.kill()
        self.start()

    def dies(self, fault, patience):
        try:
            self.start(fault)
            self.it.custodian.wait(patience)
        except AssertionError as error:  # while it was waited for
            if f"ended with {-signal.SIGKILL}:" not in str(error):
                raise
        except subprocess.TimeoutExpired:
            return False
        self.it.kill()
        return True

    def stop_and_go(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.rng.uniform(0.1, 2))
            os.kill(pid, signal.SIGCONT)

    def stop_custodian(self):
        self.stop_and_go(self.it.custodian.pid)
        self.counts["custodian_stops"] += 1

    def stop_worker(self):
        self.stop_and_go(self.rng.choice(self.settled_workers()))
        self.counts["worker_stops"] += 1

    def fill_disk(self):
        self.disk.fill(self.rng.randint(0, 400), self.rng.randint(1, 60))
        try:
            wait_for(lambda: self.disk.failures_left() <= 0, "the disk was full", PATIENCE_SECONDS)
            self.counts["full_disks"] += 1
        finally:
            self.disk.empty()

    def happen(self, rotations):
        """Each kind at least once; then at random until the time is over."""
        kinds = [self.kill_custodian, self.kill_worker, self.kill_at_point, self.stop_custodian,
                 self.stop_worker, self.fill_disk]
        first, end = self.rng.sample(kinds, len(kinds)), time.monotonic() + self.seconds
        while (first or time.monotonic() < end) and not rotations.over.is_set():
            time.sleep(self.rng.uniform(0.2, 1.5))
            (first.pop() if first else self.rng.choice(kinds))()

    def happen_at_every_point(self, rotations):
        """Those that a rotation passes once are seldom met at random."""
        while self.points < set(POINTS) and not rotations.over.is_set():
            before = len(self.points)
            self.kill_at_point(PATIENCE_SECONDS)
            if len(self.points) == before:
                rotations.wrong.append("a point was not passed in "
                                       f"{PATIENCE_SECONDS} s: {sorted(set(POINTS) - self.points)}")
                return

    # --- from beginning to end ---
    def run(self):
        self.start()
        wait_for(lambda: self.it.api("GET", "/v1/health").json.get("encrypt"), "it serves")
        self.it.create_app()
        for first in range(0, self.rows, 50000):
            self.fill(first, min(self.rows, first + 50000))
        clients = [subprocess.Popen([sys.executable, traffic.__file__, str(self.it.socket),
                                     str(journal), str(n), READS])
                   for n, journal in enumerate(self.journals)]
        rotations = Rotations(self)
        try:
            rotations.start()
            self.happen(rotations)
            if self.every_point:
                self.happen_at_every_point(rotations)
            # Whatever else happened, the last one comes to its end.
            wait_for(lambda: rotations.over.is_set() or rotations.completed, "a whole rotation",
                     PATIENCE_SECONDS)
        finally:
            rotations.over.set()
            rotations.join()
            for client in clients:
                client.terminate()
            ended = [client.wait(PATIENCE_SECONDS) for client in clients]
        return self.check(rotations, ended)

    def fill(self, first, end):
        lines = "".join(f'{{"app":"app","principal":"{principal_of(n)}","external_user":"ext",'
                        f'"fields":{{"user":"u","password":"{password_of(n)}"}}}}\n'
                        for n in range(first, end))
        self.it.sso("cred", "import", "-", data=lines, check=0, timeout=3600)

    def check(self, rotations, ended):
        """Everything that is wrong, in words."""
        wrong = list(rotations.wrong)
        wrong += [f"client {n} ended with {code}" for n, code in enumerate(ended) if code != 0]
        if not rotations.wrong:
            last = self.it.wait_rotation("completed", "completed_with_errors", "failed", "cancelled",
                                         "paused", seconds=PATIENCE_SECONDS)
            rotations.completed.add(last["to"])
            if last["state"] != "completed":
                wrong.append(f"the last rotation ended {last}")
        found = {line["principal"]: line["fields"]["password"]
                 for line in self.it.sso("cred", "export", "app", check=0, timeout=3600).lines}
        lost = [n for n in range(self.rows) if found.get(principal_of(n)) != password_of(n)]
        if lost:
            wrong.append(f"{len(lost)} imported rows are wrong or gone, such as {lost[:5]}")
        records = [traffic.read_record(journal) for journal in self.journals]
        for journal in self.journals:
            wrong += [f"{each}" for each in traffic.compare(journal, found)]
        checked = self.it.sso("db", "check", "--open", timeout=3600)
        if checked.code != 0 or checked.json["opened"] != len(found):
            wrong.append(f"db check: {checked}")
        verified = self.it.sso("audit", "verify", timeout=3600)
        if verified.code != 0 or verified.json["findings"]:
            wrong.append(f"audit verify: {verified}")
        self.tell(rotations, records, len(found))
        return wrong

    def tell(self, rotations, records, rows):
        counts = {"rotations": len(rotations.completed),
                  "acknowledged_writes": sum(record.acknowledged for record in records),
                  "lookups": sum(record.reads for record in records), "rows": rows, **self.counts,
                  "points": len(self.points)}
        print("stress:", " ".join(f"{name}={count}" for name, count in counts.items()), flush=True)


def main():
    long = bool(os.environ.get("SSO_HSM_LONG"))
    parser = argparse.ArgumentParser(prog="stress.py")
    parser.add_argument("--seconds", type=int, default=600 if long else 20)
    parser.add_argument("--rows", type=int, default=200_000 if long else 4_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--every-point", action="store_true", default=long)
    parser.add_argument("--suite", choices=SUITES)
    arguments = parser.parse_args()
    suite = arguments.suite or random.Random(arguments.seed).choice(SUITES)
    print(f"stress: seed={arguments.seed} suite={suite} seconds={arguments.seconds}"
          f" rows={arguments.rows}", flush=True)
    it = Installation()
    try:
        it.init("--suite", suite)
        wrong = Stress(it, arguments).run()
        if wrong:
            print("\n".join(wrong[:30]))
            print(it.log_text())
    finally:
        it.close()
    print(f"stress: {len(wrong)} findings", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
