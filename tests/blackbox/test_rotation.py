"""Rotation: while others write, through pause and cancel. Kills: test_rotation_kill.py."""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import traffic
from installation import password_of, principal_of, wait_for


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
