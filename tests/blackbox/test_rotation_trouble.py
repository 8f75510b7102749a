"""What else happens to a machine while rows move: the database locked by another program, a full
disk, a clock that is set. The job waits, says so, and goes on; nobody is told what is not so."""

import os
import time
from datetime import datetime

from installation import credential_path, password_of, principal_of, wait_for
from preloads import FullDisk, MovedClock, preload
from test_rotation import assert_all_right, states

# As long as another program holds the lock; without it: until the job has noticed.
LOCKED_SECONDS = 60 if os.environ.get("SSO_HSM_LONG") else 0
ROWS = 1000
DAY = 86400


def rotating(it, environment=None):
    """Some rows have moved, the most have not."""
    # SQLite itself waits for a lock; the job is to notice sooner.
    it.write_config(database={"url": f"sqlite:{it.database}?busy_timeout=200ms"})
    it.init()
    it.start(environment=environment)
    it.create_app()
    it.fill(ROWS)
    # A hundred seconds of work, so that it is not over before the trouble on a slow machine.
    it.sso("rotate", "--no-backup", "--rate", "10", "--detach", check=0)
    wait_for(lambda: it.rotation()["done"] > 0, "the rotation moves rows")
    return it


def wait_until_it_waits(it):
    wait_for(lambda: 'message="rotation waits" for="database"' in it.log.read_text(),
             "the rotation waits for the database")
    assert it.rotation()["state"] == "running"


def wrong_by_seconds(it, principal):
    """How far the custodian's wall clock was ahead when the credential was written."""
    updated = it.api("GET", credential_path("app", principal), status=200).json["updated"]
    return datetime.fromisoformat(updated.replace("Z", "+00:00")).timestamp() - time.time()


def refused(it):
    """Neither a write nor a lookup that must be audited is answered as if all were well."""
    for reply in (it.put("app", principal_of(1), "new"), it.look_up("app", principal_of(2))):
        assert reply.status == 503 and b"fields" not in reply.body, reply
        assert reply.code in ("database_unavailable", "audit_unavailable"), reply
    assert it.api("GET", "/v1/health").status in (200, 503)


def finish(it):
    # Whoever asks first after the trouble may still meet the end of it.
    wait_for(lambda: it.api("PATCH", "/v1/rotation", {"rate": 0}).status == 200, "a write works")
    assert it.wait_rotation("completed", "completed_with_errors", "failed")["state"] == "completed"
    assert states(it)[1] == ("retired", 0)
    assert it.password("app", principal_of(1)) == password_of(1)
    assert_all_right(it, ROWS)
    assert it.sso("audit", "verify", check=0).json["ok"]


def test_the_database_is_locked_by_another_program(blank):
    it = rotating(blank)
    with it.sql() as sql:
        sql.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        wait_until_it_waits(it)
        done = it.rotation()["done"]
        refused(it)
        time.sleep(max(0.0, LOCKED_SECONDS - (time.monotonic() - begun)))
        assert it.rotation()["done"] == done, "nothing is done that is not in the database"
        sql.execute("ROLLBACK")
    finish(it)


def test_the_disk_is_full(blank):
    shim, disk = preload("full_disk"), FullDisk(blank)
    it = rotating(blank, {"LD_PRELOAD": shim, "FULL_DISK": str(disk.path)})
    disk.fill(0, 1 << 40)
    wait_until_it_waits(it)
    refused(it)
    assert disk.failures_left() < 1 << 40
    disk.empty()
    finish(it)


def test_the_clock_is_set(blank):
    """By a day, forth and back: a time is for people, nothing that is decided depends on it."""
    shim, clock = preload("moved_clock"), MovedClock(blank)
    it = rotating(blank, {"LD_PRELOAD": shim, "MOVED_CLOCK": str(clock.path)})
    for seconds in (DAY, -2 * DAY, DAY):
        clock.move(seconds)
        done = it.rotation()["done"]
        wait_for(lambda done=done: it.rotation()["done"] > done, "rows go on moving")
        assert it.password("app", principal_of(2)) == password_of(2)
        it.put("app", principal_of(3), password_of(3), status=200)
        assert abs(wrong_by_seconds(it, principal_of(3)) - clock.get(0)) < DAY / 2
    assert it.rotation()["state"] == "running"
    finish(it)
