"""A database that is older than what the node has seen: noticed, refused, accepted."""
import contextlib
import shutil
import sqlite3

import pytest

from installation import principal_of, wait_for


def snapshot(installation, name="copy.db"):
    """What a backup of now would be."""
    path = installation.directory / name
    with contextlib.closing(sqlite3.connect(installation.database)) as source, \
            contextlib.closing(sqlite3.connect(path)) as target:
        source.backup(target)
    return path


def put_back(installation, path):
    """While nobody has it open."""
    for ending in ("-wal", "-shm"):
        installation.database.with_name(installation.database.name + ending).unlink(missing_ok=True)
    shutil.copy(path, installation.database)


def put_back_running(installation, path):
    """As sqlite3's .restore does it, under a service that runs."""
    with contextlib.closing(sqlite3.connect(path)) as source, \
            contextlib.closing(sqlite3.connect(installation.database, timeout=60)) as target:
        source.backup(target)


def has_event(installation, name="database_went_back"):
    health = installation.api("GET", "/v1/health").json
    return next((each for each in health["events"] if each["name"] == name), None)


def generations(installation):
    names = [None, "pending", "active", "retiring", "retired", "destroying", "destroyed"]
    with installation.sql() as sql:
        rows = sql.execute("SELECT * FROM generations ORDER BY number").fetchall()
    return {row["number"]: {**dict(row), "state": names[row["state"]]} for row in rows}


@pytest.fixture
def filled(running):
    for n in range(5):
        running.put("app", principal_of(n), f"secret {n}", status=201)
    return running


def refused_everywhere(it):
    """What §5.3 refuses, and what works."""
    assert it.password("app", principal_of(0)) == "secret 0"
    for reply in (it.put("app", principal_of(1), "changed"),
                  it.api("DELETE", f"/v1/apps/app/credentials/{principal_of(1)}"),
                  it.api("POST", "/v1/rotation", {"no_backup": True}),
                  it.api("PATCH", "/v1/generations/1", {"state": "retired"}),
                  it.api("PATCH", "/v1/settings", {"system.enabled": False}),
                  it.api("POST", "/v1/apps", {"name": "b", "type": "individual",
                                              "fields": [{"label": "x"}]})):
        assert reply.status == 503 and reply.code == "database_went_back", reply
    for command in (("key", "generate", "--no-backup"), ("key", "destroy", "1")):
        done = it.sso(*command, check=5)
        assert done.problem["code"] == "database_went_back", done
        assert "accept-restore" in done.problem["detail"]
    assert it.password("app", principal_of(1)) == "secret 1"


def keys_in_token(it):
    return it.token.pkcs11_tool("-O", "--type", "secrkey").count("Secret Key Object")


@pytest.mark.parametrize("while_it_runs", [False, True])
def test_an_older_copy_is_refused(filled, while_it_runs):
    it = filled
    copy = snapshot(it)
    it.put("app", principal_of(0), "newer", status=200)
    with it.sql() as sql:
        audited = sql.execute("SELECT max(number) FROM audit").fetchone()[0]
    if while_it_runs:
        put_back_running(it, copy)
        # At once for a write; a row key in the cache is still of the newer row until the next look.
        assert it.put("app", principal_of(1), "changed").code == "database_went_back"
        wait_for(lambda: has_event(it), "the event")
    else:
        it.stop()
        put_back(it, copy)
        it.start(wait="decrypt")
    refused_everywhere(it)
    event = wait_for(lambda: has_event(it), "the event")
    assert event["severity"] == "error"
    wait_for(lambda: it.api("GET", "/v1/health").json["encrypt"] is False, "it wraps nothing")
    assert keys_in_token(it) == 1
    # Refusals and lookups are in the audit, however long it grows.
    with it.sql() as sql:
        outcomes = [row[0] for row in sql.execute("SELECT outcome FROM audit")]
    assert outcomes.count("database_went_back") >= 6
    for _ in range(audited):
        it.password("app", principal_of(0))
    it.stop()
    it.start(wait="decrypt")
    assert it.put("app", principal_of(1), "changed").code == "database_went_back"


def test_without_the_kept_head_the_marks_tell(filled):
    """audit-head is gone; the marks know generation 2."""
    it = filled
    copy = snapshot(it)
    it.sso("rotate", "--no-backup", check=0)
    it.stop()
    put_back(it, copy)
    (it.directory / "audit-head").unlink()
    it.start(wait="decrypt")
    assert it.put("app", principal_of(1), "changed").code == "database_went_back"
    assert "2" in wait_for(lambda: has_event(it), "the event")["text"]
    assert it.sso("rotate", "--no-backup").code != 0 and keys_in_token(it) == 2
    # The right one again, and all is well.
    assert it.password("app", principal_of(0)) == "secret 0"


def test_a_row_that_cannot_be_read_hides_nothing(filled):
    """Who puts an older database back adds a record that stops the comparison."""
    it = filled
    copy = snapshot(it)
    it.sso("rotate", "--no-backup", check=0)
    it.stop()
    with contextlib.closing(sqlite3.connect(copy)) as older:
        older.execute("INSERT INTO audit SELECT 'another', 1, time_ms, actor, how, operation, target,"
                      " outcome, request_id, row_id, row_version, x'00' FROM audit LIMIT 1")
        older.commit()
    put_back(it, copy)
    (it.directory / "audit-head").unlink()
    it.start(wait="decrypt")
    assert it.put("app", principal_of(1), "changed").code == "database_went_back"
    assert it.password("app", principal_of(1)) == "secret 1"


def test_the_right_database_again(filled):
    it = filled
    copy = snapshot(it)
    it.put("app", principal_of(0), "newer", status=200)
    newest = snapshot(it, "newest.db")
    put_back_running(it, copy)
    assert it.put("app", principal_of(1), "changed").code == "database_went_back"
    put_back_running(it, newest)
    wait_for(lambda: not has_event(it), "the event ends")
    wait_for(lambda: it.put("app", principal_of(1), "changed").status == 200, "it is written to")
    assert it.password("app", principal_of(0)) == "newer"
    assert it.sso("audit", "verify", check=0).json["ok"]


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_marks_that_cannot_be_read(filled, content):
    it = filled
    marks = it.directory / "high-water"
    wait_for(marks.exists, "the marks")
    it.stop()
    marks.write_bytes(marks.read_bytes()[:-5] if content is None else content)
    it.start(wait="decrypt")
    reply = it.put("app", principal_of(1), "changed")
    assert reply.code == "database_went_back" and "high-water" in reply.json["detail"], reply
    assert it.password("app", principal_of(1)) == "secret 1"


def test_a_new_node_begins_with_what_is_there(filled):
    it = filled
    it.stop()
    for name in ("high-water", "audit-head"):
        (it.directory / name).unlink(missing_ok=True)
    it.start()
    it.put("app", principal_of(1), "changed", status=200)
    it.restart()
    assert (it.directory / "high-water").exists()


def test_a_database_of_another_system_in_its_place(filled, make_installation):
    it = filled
    other = make_installation()
    other.init()
    it.stop()
    put_back(it, snapshot(other))
    it.start(wait=None)
    assert it.look_up("app", principal_of(1)).code == "database_unavailable"
    assert "another system" in it.log_text()
