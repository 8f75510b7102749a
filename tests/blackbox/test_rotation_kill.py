"""Rotation through kill -9, of all of it and at each of its points, and past a writer that sleeps."""

import contextlib
import http.client
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

import traffic
from installation import SANITIZED, password_of, principal_of, wait_for
from test_rotation import assert_all_right, exported, states, writer

LONG = bool(os.environ.get("SSO_HSM_LONG"))
KILLS = 10
ROWS = 2000 if SANITIZED else 100000 if LONG else 10000
WRITES_BETWEEN_KILLS = 50
# Enough for more than one transaction of the engine.
FAULT_ROWS = 3000 if SANITIZED else 5000


def progress_of(installation):
    """done and total where a rotation is running, else None; the custodian may not be up yet."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        reply = installation.api("GET", "/v1/rotation")
        if reply.status == 200 and reply.json["state"] == "running":
            return reply.json["done"], reply.json["total"]
    return None


def set_rate(installation, rate):
    """False where the custodian is not up yet, or has not taken the rotation up."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return installation.api("PATCH", "/v1/rotation", {"rate": rate}).status == 200
    return False


def wait_progress(installation, least):
    """Done and total, once so many rows are done."""
    def ripe():
        at = progress_of(installation)
        return at and at[0] >= least and at

    return wait_for(ripe, f"{least} rows are moved: {installation.rotation()}", 300)


@pytest.mark.long
def test_kill_9_of_the_custodian_ten_times(running):
    """The kills land while the rotation is moving rows and a writer makes and deletes some."""
    rows = ROWS
    running.fill(rows)
    inside = []
    # A cap, so that the work cannot be over before all the kills have landed.
    rate = max(200, rows // 20)
    with writer(running) as journal:
        wait_for(lambda: traffic.acknowledged(journal) >= WRITES_BETWEEN_KILLS, "writes")
        running.sso("rotate", "--no-backup", "--rate", rate, "--detach", check=0)
        for kill in range(KILLS):
            written = traffic.acknowledged(journal)
            wait_for(lambda: set_rate(running, rate), f"the rotation goes on before kill {kill + 1}")
            wait_progress(running, rows * (kill + 1) // (2 * KILLS))
            # It waits for the writer, however slow this machine is, and moves rows when it is killed.
            wait_for(lambda: set_rate(running, 1), "the rotation is slowed down")
            wait_for(lambda written=written: traffic.acknowledged(journal) >=
                     written + WRITES_BETWEEN_KILLS, f"writes before kill {kill + 1}", 300)
            done, _ = wait_progress(running, 0)
            wait_for(lambda: set_rate(running, rate), "the rotation is as fast as before")
            done, total = wait_progress(running, done + 1)
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
        assert it.custodian.wait(300) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        pytest.fail(f"the rotation never passed {point}")
    it.kill()
    it.start()
    it.wait_rotation("completed")
    assert_all_right(it, FAULT_ROWS)
    assert states(it)[1] == ("retired", 0)


def write_while_another_rotates(it, other, principal):
    """The reply to a write that was stopped after its wrap, and whether it woke up after the next
    master's rotation. It did not where the stop happened to catch another thread with SQLite's write
    lock: nobody can take over then, and it has to be tried again."""
    it.start(environment={"SSO_HSM_FAULT": "write.wrapped:stop"})
    replies, rotated = [], False
    thread = threading.Thread(target=lambda: replies.append(it.put("app", principal, principal)))
    thread.start()
    try:
        wait_for(lambda: stopped(it.custodian.pid), "the writer stops between wrap and store")
        other.start(wait=None)

        def settled():
            with contextlib.suppress(OSError):
                health = other.api("GET", "/v1/health").json
                locked = any(event["name"] == "database_locked" for event in health["events"])
                return "locked" if locked else health["encrypt"] and "master"
            return None
        if wait_for(settled, "the other takes over") == "master":
            done = other.sso("rotate", "--no-backup")
            assert done.code == 0 and states(other)[1] == ("retired", 0), done
            rotated = True
    finally:
        os.kill(it.custodian.pid, signal.SIGCONT)
        thread.join()
    return replies[0], rotated


def test_writer_stopped_between_wrap_and_store(fault_installation, make_installation):
    """It wakes up after the next master's rotation has finished: it changes nothing, and says so.
    (That a write outrun by its own node's rotation is wrapped anew: custodian/test_credentials.)"""
    it = fault_installation
    it.write_config(cluster={"master_lease": "6s" if SANITIZED else "3s"})
    it.init()
    it.start()
    it.create_app()
    it.fill(200)
    it.stop()
    other = make_installation(token=it.token, prefix=it.prefix,
                              database=it.settings["database"], cluster={"node": "node2"})
    other.write_config(system={"state_directory": other.directory})
    other.database = it.database
    expected = {principal_of(n): password_of(n) for n in range(200)}
    for attempt in range(10):
        principal = f"slow{attempt}"
        reply, rotated = write_while_another_rotates(it, other, principal)
        if rotated:
            break
        if reply.status == 201:
            expected[principal] = principal
        other.stop()
        it.stop()
    assert rotated and reply.status == 503 and reply.json["code"] == "master_unavailable", reply
    active = [number for number, (state, _) in states(other).items() if state == "active"]
    with it.sql() as sql:
        assert [row[0] for row in sql.execute("SELECT DISTINCT generation FROM credentials")] == active
    assert exported(other) == expected
    assert states(it)[1] == ("retired", 0)
    it.check_open()


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("T")
