"""db backup, db backup-info, db upgrade."""
import shutil

import pytest

from installation import principal_of


@pytest.fixture
def backed(running):
    for n in range(5):
        running.put("app", principal_of(n), f"secret {n}", status=201)
    path = running.directory / "copy.db"
    return running, path, running.sso("db", "backup", path, check=0).json


def test_a_copy_is_whole_and_says_what_it_needs(backed):
    running, path, made = backed
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.with_name(path.name + "-wal").exists()
    (needed,) = made["generations"]
    assert (needed["number"], needed["rows"], needed["sealed_keys"]) == (1, 5, 1)
    info = running.sso("db", "backup-info", path, check=0).json
    assert info == made and info["signature"] and info["system"]["name"] == "test"
    # It is what the custodian would serve.
    running.put("app", principal_of(0), "changed", status=200)
    running.stop()
    shutil.copy(path, running.database)
    for ending in ("-wal", "-shm"):
        running.database.with_name(running.database.name + ending).unlink(missing_ok=True)
    running.check_open()
    assert running.sso("db", "backup", path, check=1).problem["code"] == "already_exists"
    assert running.sso("db", "backup", "relative", check=2)


@pytest.mark.parametrize("ending, old, new", [
    ("", b"app", b"apx"), (".info", b'"rows":5', b'"rows":6'), (".info", b"signature ", b"signaturf "),
    (".info", b"BEGIN PUBLIC", b"BEGIN PRIVAT")])
def test_what_was_changed_is_told(backed, ending, old, new):
    running, path, _ = backed
    file = path.with_name(path.name + ending)
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new, 1))
    refused = running.sso("db", "backup-info", path, check=1).problem
    assert refused["code"] in ("backup_tampered", "backup_invalid"), refused


def test_no_backup_at_all(blank):
    (blank.directory / "junk").write_bytes(b"junk")
    (blank.directory / "junk.info").write_bytes(b"junk")
    for name in ("junk", "none"):
        refused = blank.sso("db", "backup-info", blank.directory / name, check=1).problem
        assert refused["code"] == "backup_invalid"


def test_upgrade_says_that_the_schema_is_the_newest(initialised):
    done = initialised.sso("db", "upgrade", check=0).json
    assert done == {"upgraded": False, "schema": done["schema"]}
    assert "newest" in initialised.sso("db", "upgrade", as_json=False, check=0).out
    with initialised.sql() as sql:
        sql.execute("UPDATE schema_migrations SET number = number + 1000")
    assert initialised.sso("db", "upgrade").code == 1
