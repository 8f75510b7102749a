"""Rotation: while others write, through pause and cancel, and through kill -9."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import traffic
from installation import SANITIZED, password_of, principal_of, wait_for

KILLS = 10
# SSO_HSM_TEST_ROWS makes the crash test smaller where programs are slow (sanitizers).
ROWS = int(os.environ.get("SSO_HSM_TEST_ROWS", "2000" if SANITIZED else "100000"))
WRITES_BETWEEN_KILLS = 50
# Enough for more than one transaction of the engine.
FAULT_ROWS = 5000 if SANITIZED else 12000


@contextlib.contextmanager
def writer(installation, seed=1):
    """traffic.py against the installation; its journal."""
    journal = installation.directory / f"journal{seed}"
    process = subprocess.Popen([sys.executable, Path(traffic.__file__), installation.socket, journal,
                                str(seed)])
    try:
        yield journal
    finally:
        process.terminate()
        assert process.wait(60) == 0


def exported(installation, app="app"):
    lines = installation.sso("cred", "export", app, check=0).lines
    return {line["principal"]: line["fields"]["password"] for line in lines}


def assert_all_right(installation, rows, *journals):
    """Every row opens, the imported ones are as they were, and the writers' as they recorded."""
    found = exported(installation)
    lost = [n for n in range(rows) if found.get(principal_of(n)) != password_of(n)]
    assert not lost, f"{len(lost)} imported rows are wrong or gone, for instance {lost[:5]}"
    for journal in journals:
        assert traffic.compare(journal, found) == []
    checked = installation.check_open()
    assert checked["rows"] == len(found)


def states(installation):
    listed = installation.sso("key", "list", check=0).json["generations"]
    return {each["number"]: (each["state"], each["rows"]) for each in listed}


def test_rotation_moves_every_row_and_changes_nothing_else(running):
    running.fill(3000)
    with running.sql() as sql:
        columns = ("row_id, application_id, principal, external_user, born, row_key_id, nonce,"
                   " ciphertext, version, updated, format")
        before = [tuple(row) for row in sql.execute(f"SELECT {columns} FROM credentials ORDER BY 1")]
        keys = [row[0] for row in sql.execute("SELECT wrapped_row_key FROM credentials ORDER BY row_id")]
        policy = sql.execute("SELECT generation, wrapped FROM sealed_keys").fetchone()
    done = running.sso("rotate", "--no-backup", check=0).lines[-1]
    assert done["state"] == "completed" and done["failed"] == 0 and done["to"] == 2
    assert done["from"] == [1] and done["total"] >= 3000 and done["done"] >= 3000
    assert done["finished"] is not None and done["error"] is None
    with running.sql() as sql:
        after = [tuple(row) for row in sql.execute(f"SELECT {columns} FROM credentials ORDER BY 1")]
        moved = [row[0] for row in sql.execute("SELECT wrapped_row_key FROM credentials ORDER BY row_id")]
        assert after == before and all(old != new for old, new in zip(keys, moved))
        assert [row[0] for row in sql.execute("SELECT DISTINCT generation FROM credentials")] == [2]
        now = sql.execute("SELECT generation, wrapped FROM sealed_keys").fetchone()
        assert now[0] == 2 and now[1] != policy[1]
    assert states(running)[1] == ("retired", 0) and states(running)[2][0] == "active"
    assert_all_right(running, 3000)
    running.restart()
    assert running.password("app", principal_of(7)) == password_of(7)


@pytest.mark.parametrize("first, second", [("aes256-kw", "aes256-gcm"), ("aes256-gcm", "aes256-kw")])
def test_rotation_between_suites(blank, first, second):
    blank.init("--suite", first)
    blank.start()
    blank.create_app()
    blank.fill(500)
    made = blank.sso("key", "generate", "--no-backup", "--suite", second, check=0).json
    assert made["suite"] == second and made["state"] == "pending"
    blank.sso("rotate", check=0)
    assert states(blank)[2][0] == "active"
    assert_all_right(blank, 500)


def test_rotation_of_an_empty_database(running):
    done = running.sso("rotate", "--no-backup", check=0).lines[-1]
    assert done["state"] == "completed" and done["failed"] == 0


def test_rotate_without_a_pending_generation(running):
    refused = running.sso("rotate", check=2)
    assert "key generate" in refused.problem["detail"]
    assert running.sso("rotate", "--generation", "1").code != 0
    assert running.sso("rotate", "--generation", "9").code != 0
    assert states(running) == {1: ("active", states(running)[1][1])}


def test_dry_run_writes_nothing(running):
    running.fill(500)
    running.sso("key", "generate", "--no-backup", check=0)
    with running.sql() as sql:
        before = [tuple(row) for row in sql.execute("SELECT * FROM credentials ORDER BY row_id")]
    done = running.sso("rotate", "--dry-run", check=0).lines[-1]
    assert done["dry_run"] is True and done["failed"] == 0
    with running.sql() as sql:
        assert [tuple(row) for row in sql.execute("SELECT * FROM credentials ORDER BY row_id")] == before
    assert states(running)[1][0] == "active" and states(running)[2][0] == "pending"


def test_pause_resume_cancel_and_a_second_rotation(running):
    running.fill(3000)
    running.sso("rotate", "--no-backup", "--rate", "200", "--detach", check=0)
    wait_for(lambda: running.rotation()["done"] > 0, "the rotation moves rows")
    for command in (["rotate", "--no-backup"], ["rotate", "--generation", "2"]):
        refused = running.sso(*command, check=1)
        assert refused.problem["code"] == "rotation_in_progress"
    running.sso("rotate", "pause", check=0)
    paused = running.wait_rotation("paused")
    assert 0 < paused["done"] < paused["total"]
    for command in (["rotate", "--no-backup"], ["rotate", "--generation", "2"]):
        refused = running.sso(*command, check=1)
        assert refused.problem["code"] == "rotation_in_progress"
        assert "resume" in refused.problem["detail"]
    assert running.password("app", principal_of(0)) == password_of(0)
    running.put("app", "while-paused", "x", status=201)
    # A pause outlives a restart.
    running.restart()
    assert running.rotation()["state"] == "paused"
    running.sso("rotate", "cancel", check=0)
    running.wait_rotation("cancelled")
    events = running.sso("status", check=0).json["health"]["events"]
    assert "rotation_unfinished" in [event["name"] for event in events]
    assert states(running)[1][0] == "retiring" and states(running)[2][0] == "active"
    assert running.password("app", principal_of(2999)) == password_of(2999)
    running.sso("rotate", "resume", check=0)
    running.api("PATCH", "/v1/rotation", {"rate": 0}, status=200)
    done = running.wait_rotation("completed")
    assert done["failed"] == 0
    assert states(running)[1] == ("retired", 0)
    events = running.sso("status", check=0).json["health"]["events"]
    assert "rotation_unfinished" not in [event["name"] for event in events]
    assert_all_right(running, 3000)


def test_actions_that_do_not_fit(running):
    for action in ("pause", "resume", "cancel"):
        assert running.sso("rotate", action).code == 1
    for body in ({}, {"action": "nonsense"}, {"action": 5}, {"rate": -1}, {"rate": "x"}, [], None):
        assert running.api("PATCH", "/v1/rotation", body).status in (400, 404, 409)
    for body in ({}, {"generation": 0}, {"generation": "2"}, {"generation": 2, "no_backup": True},
                 {"no_backup": True, "surplus": 1}, {"no_backup": True, "verify": "some"}, []):
        assert running.api("POST", "/v1/rotation", body).status == 400, body
    assert running.rotation()["state"] == "none"


def test_options_that_name_what_is_not_there(running):
    """Refused before anything changes."""
    for options, code in ((["--without", "node2"], "not_found"), (["--without", "node1"], "bad_request"),
                          (["--token", "elsewhere"], "not_found"), (["--token", "hsm"], "token_not_suitable")):
        refused = running.sso("rotate", "--no-backup", *options, check=1)
        assert refused.problem["code"] == code, (options, refused)
    for body in ({"no_backup": True, "token": 5}, {"no_backup": True, "without": "node2"},
                 {"no_backup": True, "without": [5]}, {"no_backup": True, "reencrypt": "yes"}):
        assert running.api("POST", "/v1/rotation", body).status == 400, body
    assert list(states(running)) == [1]


def test_the_rate_of_a_running_rotation_is_changed(running):
    running.fill(2000)
    running.sso("rotate", "--no-backup", "--rate", "50", "--detach", check=0)
    wait_for(lambda: running.rotation()["done"] > 0, "the rotation moves rows")
    assert running.sso("rotate", "rate", "60", check=0).json["rate"] == 60
    assert running.sso("rotate", "rate", "60", check=0).json["state"] == "running"
    running.sso("rotate", "rate", "many", check=2)
    running.sso("rotate", "pause", check=0)
    running.sso("rotate", "pause", check=0)
    assert running.wait_rotation("paused")["rate"] == 60
    assert running.sso("rotate", "rate", "0", check=0).json["rate"] is None
    running.sso("rotate", "resume", check=0)
    running.sso("rotate", "resume")
    assert running.wait_rotation("completed")["failed"] == 0


def test_a_row_that_cannot_be_moved_is_quarantined(running):
    running.fill(1000)
    with running.sql() as sql:
        for n in (3, 500):
            sql.execute("UPDATE credentials SET wrapped_row_key = zeroblob(40) WHERE principal = ?",
                        [principal_of(n)])
    done = running.sso("rotate", "--no-backup", check=3).lines[-1]
    assert done["state"] == "completed_with_errors" and done["failed"] == 2
    status = running.sso("rotate", "status", "--quarantine", check=0).json
    assert {row["principal"] for row in status["quarantine"]} == {principal_of(3), principal_of(500)}
    for row in status["quarantine"]:
        assert row["code"] == "row_corrupt" and row["reason"] and row["app"] == "app"
        assert row["generation"] == 1 and row["tries"] >= 1
    assert states(running)[1] == ("retiring", 2), "a generation with a row on it cannot retire"
    assert running.sso("status").json["rows"]["quarantined"] == 2
    assert running.look_up("app", principal_of(3)).code == "row_corrupt"
    assert running.password("app", principal_of(4)) == password_of(4)
    # Written anew and deleted they are sound again, and the old generation can go.
    running.put("app", principal_of(3), password_of(3), status=200)
    running.api("DELETE", "/v1/apps/app/credentials/" + principal_of(500), status=204)
    running.sso("rotate", "retry-quarantined", check=0)
    running.wait_rotation("completed", seconds=60)
    assert states(running)[1] == ("retired", 0)
    running.check_open()


def test_lookups_and_writes_go_on(running):
    """No failed lookup and no lost write while every row moves twice."""
    running.fill(5000)
    failures, stop, lookups = [], threading.Event(), 0

    def look_up():
        nonlocal lookups
        with contextlib.closing(running.connection()) as connection:
            while not stop.is_set():
                n = lookups % 5000
                lookups += 1
                reply = connection.call("POST", "/v1/lookup",
                                        {"app": "app", "principal": principal_of(n)})
                if reply.status != 200 or reply.json["fields"]["password"] != password_of(n):
                    failures.append(repr(reply))

    thread = threading.Thread(target=look_up)
    with writer(running) as journal:
        thread.start()
        try:
            wait_for(lambda: traffic.acknowledged(journal) > 20 and lookups > 100, "traffic")
            for _ in range(2):
                running.sso("rotate", "--no-backup", check=0)
        finally:
            stop.set()
            thread.join()
    assert not failures, failures[:3]
    assert states(running)[3][0] == "active" and states(running)[2] == ("retired", 0)
    assert_all_right(running, 5000, journal)
    verified = running.sso("audit", "verify", check=0).json
    assert verified["ok"] and verified["findings"] == []


def progress_of(installation):
    """done and total where a rotation is running, else None; the custodian may not be up yet."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        reply = installation.api("GET", "/v1/rotation")
        if reply.status == 200 and reply.json["state"] == "running":
            return reply.json["done"], reply.json["total"]
    return None


@pytest.mark.long
def test_kill_9_of_the_custodian_ten_times(running):
    """The kills land while the rotation is moving rows and a writer makes and deletes some."""
    rows = ROWS
    running.fill(rows)
    inside = []
    with writer(running) as journal:
        wait_for(lambda: traffic.acknowledged(journal) >= WRITES_BETWEEN_KILLS, "writes")
        # A cap, so that the work cannot be over before all the kills have landed.
        running.sso("rotate", "--no-backup", "--rate", max(200, rows // 20), "--detach", check=0)
        for kill in range(KILLS):
            written = traffic.acknowledged(journal)
            target = rows * (kill + 1) // (KILLS + 2)

            def ripe(written=written, target=target):
                at = progress_of(running)
                return at and at[0] >= target and \
                    traffic.acknowledged(journal) >= written + WRITES_BETWEEN_KILLS and at

            done, total = wait_for(ripe, f"kill {kill + 1} of {KILLS}: {running.rotation()}", 300)
            running.kill()
            inside.append(0 < done < total)
            running.start(wait=None)
        # It went on by itself after every restart; now at full speed to its end.
        running.api("PATCH", "/v1/rotation", {"rate": 0}, status=200)
        done = running.wait_rotation("completed", "completed_with_errors", "failed")
    assert done["state"] == "completed" and done["failed"] == 0, done
    assert sum(inside) >= 8, inside
    acknowledged = traffic.read_journal(journal)[2]
    assert acknowledged >= WRITES_BETWEEN_KILLS * KILLS
    print(f"{sum(inside)} of {KILLS} kills with 0 < done < {rows}; {acknowledged} acknowledged writes")
    assert states(running)[1] == ("retired", 0)
    with running.sql() as sql:
        assert [row[0] for row in sql.execute("SELECT DISTINCT generation FROM credentials")] == [2]
    assert_all_right(running, rows, journal)
    assert running.sso("audit", "verify", check=0).json["ok"]


@pytest.mark.parametrize("point", [
    "rotation.prepare", "rotation.before-switch", "rotation.after-switch", "rotation.batch-moved",
    "rotation.before-commit", "rotation.after-commit", "rotation.before-commit:kill:2",
    "rotation.before-finish", "rotation.after-finish"])
def test_killed_at_a_point_of_the_rotation(fault_installation, point):
    """Killed there, it goes on after the restart and loses nothing."""
    it = fault_installation
    it.init()
    it.start()
    it.create_app()
    it.fill(FAULT_ROWS)
    it.stop()
    it.start(environment={"SSO_HSM_FAULT": point if ":" in point else f"{point}:kill"})
    with contextlib.suppress(OSError, http.client.HTTPException):
        it.api("POST", "/v1/rotation", {"no_backup": True})
    try:
        assert it.custodian.wait(60) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        pytest.fail(f"the rotation never passed {point}")
    it.kill()
    it.start()
    it.wait_rotation("completed")
    assert_all_right(it, FAULT_ROWS)
    assert states(it)[1] == ("retired", 0)


def write_while_another_rotates(it, other):
    """The reply to a write that was stopped after its wrap and woke up after the rotation. None where
    the stop happened to catch another thread with SQLite's write lock: nobody can rotate then, and
    it has to be tried again."""
    it.stop()
    it.start(environment={"SSO_HSM_FAULT": "write.wrapped:stop"})
    replies = []
    thread = threading.Thread(target=lambda: replies.append(it.put("app", "slow", "late but right")))
    thread.start()
    try:
        wait_for(lambda: stopped(it.custodian.pid), "the writer stops between wrap and store")
        done = other.sso("rotate", "--no-backup")
        if done.code == 5 and "holds the lock" in done.problem["detail"]:
            return None
        assert done.code == 0 and states(other)[1] == ("retired", 0), done
    finally:
        os.kill(it.custodian.pid, signal.SIGCONT)
        thread.join()
    return replies[0]


def test_writer_stopped_between_wrap_and_store(fault_installation, make_installation):
    """It wakes up after another node's rotation has finished: no row is left on a retired
    generation."""
    it = fault_installation
    it.init()
    it.start()
    it.create_app()
    it.fill(200)
    other = make_installation(token=it.token, prefix=it.prefix,
                              database=it.settings["database"], cluster={"node": "node2"})
    other.write_config(system={"state_directory": other.directory})
    other.database = it.database
    other.start()
    tries = (write_while_another_rotates(it, other) for _ in range(10))
    reply = next(filter(None, tries))
    assert reply.status in (200, 201), reply
    active = [number for number, (state, _) in states(other).items() if state == "active"]
    with it.sql() as sql:
        assert [row[0] for row in sql.execute("SELECT DISTINCT generation FROM credentials")] == active
    expected = {**{principal_of(n): password_of(n) for n in range(200)}, "slow": "late but right"}
    for node in (it, other):
        assert exported(node) == expected
    assert states(it)[1] == ("retired", 0)
    it.check_open()


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("T")
