"""A database that is older than what the node has seen: noticed, refused, accepted."""
import contextlib
import os
import shutil
import sqlite3
import subprocess

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


@pytest.mark.parametrize("content", [b"", None])
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


# --- accepting ---

def accept(it, check=0):
    done = it.sso("db", "accept-restore", check=check)
    return done.json if check == 0 else done


def of(report, number):
    return next(each for each in report["generations"] if each["number"] == number)


def went_back(it, copy):
    it.stop()
    put_back(it, copy)
    it.start(wait="decrypt")
    assert it.put("app", principal_of(1), "changed").code == "database_went_back"


def serves_again(it, principal=principal_of(1)):
    wait_for(lambda: not has_event(it), "the event ends")
    wait_for(lambda: it.put("app", principal, "after").status in (200, 201), "it is written to")
    assert it.password("app", principal) == "after"
    it.check_open()


def test_nothing_to_accept(filled):
    before = generations(filled)
    done = accept(filled)
    assert done["accepted"] is False and generations(filled) == before
    assert "nothing was changed" in filled.sso("db", "accept-restore", as_json=False, check=0).out


@pytest.mark.parametrize("while_it_runs", [False, True])
def test_an_older_copy_of_the_same_generation(filled, while_it_runs):
    it = filled
    anchor = it.directory / "anchor"
    copy = snapshot(it)
    it.put("app", principal_of(0), "newer", status=200)
    it.sso("audit", "verify", "--new-anchor", anchor, check=0)
    went_back(it, copy)
    if not while_it_runs:
        it.stop()
    done = accept(it)
    assert done["accepted"] and done["active"] == 1 and not done["active_closed"], done
    assert done["audit"]["known"]["number"] > 5
    if not while_it_runs:
        it.start()
    serves_again(it)
    events = [each["name"] for each in it.api("GET", "/v1/health").json["events"]]
    assert "policy_tampered" not in events and "audit_truncated" not in events, events
    assert "policy_tampered" not in it.log_text()
    # The audit is whole as it is now and says where it was cut; who knew more is told.
    report = it.sso("audit", "verify", check=0).json
    assert report["ok"]
    (cut,) = report["accepted"]
    assert cut["number"] == done["audit"]["number"] and cut["known"] == done["audit"]["known"]["number"]
    anchored = it.sso("audit", "verify", "--anchor", anchor, check=3).json
    assert any("database was put back" in each["detail"] for each in anchored["findings"]), anchored
    assert accept(it)["accepted"] is False


def numbers_used(it):
    """Of everything that knows: database, marks (through the floor), tokens."""
    with it.sql() as sql:
        rows = [row[0] for row in sql.execute("SELECT number FROM generations")]
        floor = sql.execute("SELECT value FROM settings WHERE name = 'system.generation_floor'")
        floor = int(floor.fetchone()[0])
        ids = [row[0] for row in sql.execute("SELECT secret_id FROM generations")]
    assert len(set(ids)) == len(ids)
    labels = [line.rsplit(":", 1)[1].strip() for line in
              it.token.pkcs11_tool("-O", "--type", "secrkey").splitlines() if "label:" in line]
    assert len(set(labels)) == len(labels)
    return max(rows), floor, {int(each) for each in labels}


@pytest.mark.parametrize("rotations", [1, 3])
def test_generations_made_since_are_taken_up(filled, rotations):
    it = filled
    copy = snapshot(it)
    for _ in range(rotations):
        it.sso("rotate", "--no-backup", check=0)
    it.sso("key", "generate", "--no-backup", check=0)
    newest, pending = rotations + 1, rotations + 2
    rows = generations(it)
    went_back(it, copy)
    done = accept(it)
    # The one that was active is so again: its canary proves it. Rows wait on the old one.
    assert done["active"] == newest and not done["active_closed"], done
    assert of(done, 1)["state"] == "retiring" and of(done, newest)["how"] == "taken up"
    assert of(done, pending)["state"] == "pending"
    assert [of(done, n)["state"] for n in range(2, newest)] == ["retired"] * (rotations - 1)
    now = generations(it)
    for number in range(2, pending + 1):
        assert now[number]["secret_id"] == rows[number]["secret_id"]
        assert now[number]["version"] > rows[number]["version"]
        assert now[number]["wraps"] >= rows[number]["wraps"]
    serves_again(it)
    assert numbers_used(it)[1] == pending
    it.sso("rotate", "--no-backup", check=0)
    assert it.rotation()["to"] == pending + 1
    assert it.password("app", principal_of(0)) == "secret 0"
    it.check_open()
    highest, _, labels = numbers_used(it)
    assert highest == pending + 1 and labels == set(range(1, pending + 2))


def test_a_key_that_only_the_token_knows(filled):
    """A host that was lost with its marks."""
    it = filled
    copy = snapshot(it)
    it.sso("rotate", "--no-backup", check=0)
    it.stop()
    put_back(it, copy)
    for name in ("high-water", "audit-head"):
        (it.directory / name).unlink()
    done = accept(it)
    stranger = of(done, 2)
    assert stranger["how"] == "taken up anew" and stranger["state"] == "retired"
    assert stranger["closed"] and done["active"] == 1 and done["active_closed"], done
    assert done["numbers_used"] > 2
    it.start(wait="decrypt")
    assert it.password("app", principal_of(0)) == "secret 0"
    reply = it.put("app", principal_of(1), "changed")
    assert reply.code == "wraps_exhausted" and reply.status == 409, reply
    wait_for(lambda: has_event(it, "generation_closed"), "the event")
    it.sso("rotate", "--no-backup", check=0)
    serves_again(it)
    assert it.rotation()["to"] == done["numbers_used"] + 1
    wait_for(lambda: not has_event(it, "generation_closed"), "the event ends")
    report = it.sso("audit", "verify", check=0).json
    assert report["ok"] and report["accepted"][0]["known"] is None


def test_gcm_wraps_nothing_more(make_installation):
    it = make_installation()
    it.init("--suite", "aes256-gcm")
    it.start()
    it.create_app()
    it.put("app", "first", "secret 0", status=201)
    copy = snapshot(it)
    wraps = generations(it)[1]["wraps"]
    it.fill(200)
    went_back(it, copy)
    done = accept(it)
    assert done["active_closed"] and of(done, 1)["closed"], done
    wait_for(lambda: not has_event(it), "the event ends")
    wait_for(lambda: it.put("app", principal_of(1), "x").code == "wraps_exhausted", "it is closed")
    assert it.password("app", "first") == "secret 0"
    it.sso("rotate", "--no-backup", check=0)
    it.put("app", principal_of(1), "x", status=201)
    now = generations(it)
    assert now[1]["state"] == "retired" and now[1]["wraps"] >= wraps
    it.check_open()


def test_marks_that_were_damaged_are_made_anew(filled):
    it = filled
    it.stop()
    (it.directory / "high-water").write_bytes(b"junk")
    it.start(wait="decrypt")
    assert "high-water" in accept(it)["reason"]
    serves_again(it)


def test_a_rotation_that_was_going_on_is_cancelled(filled):
    it = filled
    for n in range(100):
        it.put("app", f"more-{n}", "x", status=201)
    it.sso("rotate", "--no-backup", "--rate", "1", "--detach", check=0)
    wait_for(lambda: it.rotation()["done"] > 0, "rows move")
    copy = snapshot(it)
    it.sso("rotate", "cancel", check=0)
    it.sso("rotate", "--no-backup", check=0)
    went_back(it, copy)
    assert it.rotation()["state"] == "running"
    done = accept(it)
    assert done["rotation_cancelled"] == 1 and done["active"] == 3, done
    serves_again(it)
    assert it.rotation()["state"] == "cancelled"
    it.sso("rotate", "--no-backup", check=0)
    it.check_open()


@pytest.mark.parametrize("point", ["accept.written", "accept.committed", "accept.head"])
def test_killed_at_a_step_it_is_said_again(fault_installation, point):
    it = fault_installation
    it.init()
    it.start()
    it.create_app()
    it.put("app", principal_of(0), "secret 0", status=201)
    copy = snapshot(it)
    it.sso("rotate", "--no-backup", check=0)
    went_back(it, copy)
    killed = subprocess.run(it.command("db", "accept-restore"), capture_output=True, timeout=600,
                            cwd="/", env={**os.environ, "SSO_HSM_FAULT": f"{point}:kill:1"})
    assert killed.returncode == -9, killed
    assert accept(it)["active"] == 2
    serves_again(it)
    assert it.sso("audit", "verify", check=0).json["ok"]


def test_a_database_that_is_missing_is_not_one_to_make(filled):
    """Its disk is not mounted: nobody is told to make another system, and nobody can."""
    it = filled
    it.stop()
    marks, head = ((it.directory / name).read_bytes() for name in ("high-water", "audit-head"))
    away = it.directory / "away"
    database = it.database
    database.rename(away)
    it.start(wait=None)
    assert it.look_up("app", principal_of(1)).code == "database_unavailable"
    health = it.api("GET", "/v1/health").json
    assert "no_master_secret" not in [event["name"] for event in health["events"]]
    it.stop()
    report = it.sso("doctor", check=3).json
    assert [check for check in report["checks"]
            if check["id"] == "database" and "no sso-hsm init" in check["remedy"]], report
    refused = it.sso("init", "--no-backup", check=1)
    assert refused.problem["code"] == "in_use" and "mount" in refused.problem["detail"], refused
    assert not database.exists()
    assert marks == (it.directory / "high-water").read_bytes()
    assert head == (it.directory / "audit-head").read_bytes()
    away.rename(database)
    it.start()
    assert it.password("app", principal_of(1)) == "secret 1"
