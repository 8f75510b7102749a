"""db check --against-audit: rows that are not as the audit says they were written last."""

import traffic
from installation import password_of, principal_of, wait_for

from test_rotation import writer

COLUMNS = ("row_id, generation, wrapped_row_key, format, application_id, principal, external_user, born,"
           " row_key_id, nonce, version, updated, ciphertext")


def check(installation, code=0):
    return installation.sso("db", "check", "--against-audit", check=code).json


def copy_of(sql, principal):
    return tuple(sql.execute(f"SELECT {COLUMNS} FROM credentials WHERE principal = ?",
                             [principal]).fetchone())


def put_back(sql, row):
    sql.execute(f"INSERT INTO credentials ({COLUMNS}) VALUES ({','.join('?' * len(row))})", row)


def test_what_everybody_does_is_as_the_audit_says(running):
    """Writes, deletes, mappings, whole applications, rotations of both kinds."""
    running.fill(50)
    with writer(running) as journal:
        wait_for(lambda: traffic.acknowledged(journal) > 30, "writes")
        running.sso("rotate", "--no-backup", check=0)
        running.sso("rotate", "--no-backup", "--reencrypt", check=0)
    running.put("app", principal_of(3), "again", status=200)
    running.sso("mapping", "delete", "app", principal_of(4), check=0)
    running.create_app("gone")
    running.put("gone", "somebody", "x", status=201)
    running.sso("app", "purge", "gone", check=0)
    running.put("gone", "somebody", "y", status=201)
    assert check(running)["ok"]
    running.sso("app", "delete", "gone", check=0)
    done = check(running)
    assert done["ok"] and done["failures"] == [] and done["opened"] is None, done


def test_what_another_hand_did_is_named(running):
    running.fill(10)
    running.create_app("purged")
    running.put("purged", "back", "x", status=201)
    with running.sql() as sql:
        old, deleted, purged = (copy_of(sql, name)
                                for name in (principal_of(1), principal_of(2), "back"))
    running.put("app", principal_of(1), "newer", status=200)
    running.api("DELETE", "/v1/apps/app/credentials/" + principal_of(2), status=204)
    running.sso("app", "purge", "purged", check=0)
    assert check(running)["ok"]
    with running.sql() as sql:
        sql.execute("DELETE FROM credentials WHERE principal IN (?, ?)", [principal_of(1), principal_of(3)])
        for row in (old, deleted, purged):
            put_back(sql, row)
        made = list(copy_of(sql, principal_of(5)))
        made[0], made[5] = b"\x01" * 16, "made up"
        put_back(sql, made)
        sql.execute("UPDATE credentials SET version = 7 WHERE principal = ?", [principal_of(6)])
    done = check(running, 3)
    assert not done["ok"] and done["failed"] == 6
    found = {row["principal"] or row["detail"].split("(")[1].rstrip(")"): (row["code"], row["detail"])
             for row in done["failures"]}
    expected = {
        principal_of(1): ("database_went_back", "an older one was put back"),
        principal_of(2): ("database_went_back", "was deleted and is there again"),
        "app/" + principal_of(3): ("database_went_back", "never deleted, and it is missing"),
        "back": ("database_went_back", "was deleted and is there again"),
        "made up": ("policy_tampered", "knows nothing of this row"),
        principal_of(6): ("policy_tampered", "is at version 7"),
    }
    assert set(found) == set(expected), found
    for name, (code, part) in expected.items():
        assert found[name][0] == code and part in found[name][1], found[name]
    text = running.sso("db", "check", "--against-audit", as_json=False, check=3).out
    assert "NOT SOUND" in text and principal_of(1) in text
    assert running.password("app", principal_of(9)) == password_of(9)
