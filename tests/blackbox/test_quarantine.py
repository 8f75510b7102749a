"""Rows that cannot be moved: why, how often, and how they leave the quarantine by themselves."""

import secrets
import shutil

import pytest

from installation import Token, password_of, principal_of, wait_for

from test_rotation import assert_all_right, states

ROWS = 60


@pytest.fixture
def watchful(make_installation):
    """Looks at its quarantine every second."""
    it = make_installation(cluster={"poll_interval": "1s"})
    it.init()
    it.start()
    it.create_app()
    it.fill(ROWS)
    return it


def quarantine(installation):
    listed = installation.sso("rotate", "status", "--quarantine", check=0).json["quarantine"]
    return {row["principal"]: row for row in listed}


def wrapped(installation, n):
    with installation.sql() as sql:
        return sql.execute("SELECT wrapped_row_key FROM credentials WHERE principal = ?",
                           [principal_of(n)]).fetchone()[0]


def set_wrapped(installation, n, value):
    with installation.sql() as sql:
        sql.execute("UPDATE credentials SET wrapped_row_key = ? WHERE principal = ?",
                    [value, principal_of(n)])


def test_repaired_rows_leave_by_themselves(watchful):
    it = watchful
    sound = {n: wrapped(it, n) for n in (3, 4, 5, 6)}
    set_wrapped(it, 3, bytes([sound[3][0] ^ 1]) + sound[3][1:])
    set_wrapped(it, 4, sound[4][:-1])
    set_wrapped(it, 5, b"x" * 40)
    set_wrapped(it, 6, b"")
    done = it.sso("rotate", "--no-backup", check=3).lines[-1]
    assert done["state"] == "completed_with_errors" and done["failed"] == 4
    listed = quarantine(it)
    assert set(listed) == {principal_of(n) for n in (3, 4, 5, 6)}
    assert "does not open under generation 1" in listed[principal_of(3)]["reason"]
    assert "39 bytes" in listed[principal_of(4)]["reason"]
    assert all(row["tries"] == 1 and row["since"] and row["code"] == "row_corrupt"
               for row in listed.values())
    # In vain: counted, and since when stays.
    it.sso("rotate", "retry-quarantined", check=0)
    it.wait_rotation("completed_with_errors")
    wait_for(lambda: all(row["tries"] == 2 for row in quarantine(it).values()), "tried again")
    assert {name: row["since"] for name, row in quarantine(it).items()} == \
        {name: row["since"] for name, row in listed.items()}
    # One is restored as a database owner would, one set anew, one deleted.
    set_wrapped(it, 3, sound[3])
    wait_for(lambda: set(quarantine(it)) == {principal_of(n) for n in (4, 5, 6)}, "3 is moved")
    assert it.password("app", principal_of(3)) == password_of(3)
    it.put("app", principal_of(4), password_of(4), status=200)
    it.put("app", principal_of(5), password_of(5), status=200)
    assert set(quarantine(it)) == {principal_of(6)}
    assert states(it)[1][0] == "retiring"
    set_wrapped(it, 6, sound[6])
    done = it.wait_rotation("completed")
    assert done["failed"] == 0 and quarantine(it) == {}
    assert states(it)[1] == ("retired", 0)
    assert_all_right(it, ROWS)


def test_the_last_row_in_quarantine_is_set_anew(watchful):
    """Nobody asks for it, and the old generation retires."""
    set_wrapped(watchful, 3, b"x" * 40)
    watchful.sso("rotate", "--no-backup", check=3)
    watchful.put("app", principal_of(3), password_of(3), status=200)
    watchful.wait_rotation("completed")
    assert states(watchful)[1] == ("retired", 0)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_key_that_is_lost_and_comes_back(make_installation, tmp_path, restarted):
    """Its rows wait in quarantine; all others move."""
    token = Token(tmp_path / "softhsm")
    it = make_installation(token=token, cluster={"poll_interval": "1s"})
    it.init()
    it.start()
    it.create_app()
    it.fill(ROWS)
    kept = wrapped(it, 3)
    it.sso("rotate", "--no-backup", check=0)
    with it.sql() as sql:  # as if the rotation had not come to it: generation 1 still is retiring
        sql.execute("UPDATE credentials SET generation = 1, wrapped_row_key = ? WHERE principal = ?",
                    [kept, principal_of(3)])
    number = it.sso("key", "list", check=0).json["generations"][0]
    shutil.copytree(token.directory / "tokens", tmp_path / "copy")
    token.pkcs11_tool("--delete-object", "--type", "secrkey", "--id", number["secret_id"])
    if restarted:
        it.restart()
    done = it.sso("rotate", "--no-backup", check=3).lines[-1]
    assert done["state"] == "completed_with_errors" and done["failed"] == 1, done
    assert done["done"] == ROWS - 1
    listed = quarantine(it)
    assert set(listed) == {principal_of(3)} and "generation 1" in listed[principal_of(3)]["reason"]
    assert listed[principal_of(3)]["code"] in ("no_master_secret", "hsm_unavailable")
    assert it.password("app", principal_of(4)) == password_of(4)
    for path in (tmp_path / "copy").rglob("*.object"):
        there = token.directory / "tokens" / path.relative_to(tmp_path / "copy")
        if not there.exists():
            shutil.copy(path, there)
    # As whoever restores a key does through the module: only then does SoftHSM look again.
    token.make_key(secrets.token_hex(16), "something-else")
    it.wait_rotation("completed")
    assert it.password("app", principal_of(3)) == password_of(3)
    assert_all_right(it, ROWS)
