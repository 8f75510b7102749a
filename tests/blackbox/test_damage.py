"""Rows that another hand made unreadable, too long or said to be where they are not: only what depends
on them suffers, and no rotation waits for them."""

import resource

import pytest

from installation import password_of, principal_of
from test_rotation import states

ROWS = 8
VICTIM = principal_of(3)


@pytest.fixture
def two(running):
    """Generation 1 retired and without rows, all rows on generation 2."""
    running.fill(ROWS)
    running.sso("rotate", "--no-backup", check=0)
    assert states(running) == {1: ("retired", 0), 2: ("active", ROWS)}
    return running


def execute(it, statement, *values):
    with it.sql() as sql:
        assert sql.execute(statement, values).rowcount >= 1


def assert_others_open(it, but=VICTIM):
    for n in range(ROWS):
        if principal_of(n) != but:
            assert it.password("app", principal_of(n)) == password_of(n)


def quarantine(it):
    return it.sso("rotate", "status", "--quarantine", check=0).json["quarantine"]


def assert_rotates_all_but_the_victim(it, code):
    done = it.sso("rotate", "--no-backup", check=3).lines[-1]
    assert done["state"] == "completed_with_errors" and done["failed"] == 1, done
    assert done["done"] >= ROWS - 1
    assert [(row["principal"], row["code"]) for row in quarantine(it)] == [(VICTIM, code)]
    assert_others_open(it)


# --- rotation ---

def test_a_row_on_a_generation_whose_key_is_lost(two):
    two.stop()
    with two.sql() as sql:
        secret_id = sql.execute("SELECT secret_id FROM generations WHERE number = 1").fetchone()[0]
    two.token.pkcs11_tool("--delete-object", "--type", "secrkey", "--id", secret_id.hex())
    execute(two, "UPDATE credentials SET generation = 1 WHERE principal = ?", VICTIM)
    two.start()
    assert_rotates_all_but_the_victim(two, "hsm_unavailable")
    assert "generation 1" in quarantine(two)[0]["reason"]


@pytest.mark.parametrize("column", ["ciphertext", "wrapped_row_key", "external_user"])
def test_a_value_that_is_far_too_long(two, column):
    value = "zeroblob(50000000)" if column != "external_user" else "hex(zeroblob(5000000))"
    execute(two, f"UPDATE credentials SET {column} = {value} WHERE principal = ?", VICTIM)
    assert two.look_up("app", VICTIM).code == "row_corrupt"
    page = two.api("GET", "/v1/apps/app/credentials", status=200).json
    assert len(page["credentials"]) == ROWS
    assert_rotates_all_but_the_victim(two, "row_corrupt")
    checked = two.sso("db", "check", "--open")
    assert checked.code not in (0, 5), checked
    two.api("DELETE", "/v1/apps/app/credentials/" + VICTIM, status=204)
    two.sso("rotate", "retry-quarantined", check=0)
    two.wait_rotation("completed", seconds=60)
    two.check_open()


def test_a_row_said_to_be_on_a_higher_generation(two):
    execute(two, "UPDATE credentials SET generation = 77 WHERE principal = ?", VICTIM)
    done = two.sso("rotate", "--no-backup", check=3).lines[-1]
    assert done["state"] == "completed_with_errors" and "1 rows" in done["error"], done
    assert states(two)[2][0] == "retiring", "its key may be wrapped under it"
    assert_others_open(two)
    execute(two, "UPDATE credentials SET generation = 2 WHERE principal = ?", VICTIM)
    two.sso("rotate", "retry-quarantined", check=0)
    two.wait_rotation("completed", seconds=60)
    assert states(two)[2] == ("retired", 0)
    assert two.password("app", VICTIM) == password_of(3)


@pytest.mark.parametrize("change", ["state = 99", "phase = 'x'", "done = -1", "rate = x'00'",
                                    "error = x'ff'", "id = 9223372036854775807", "id = -5",
                                    "verify = NULL || 'no'"])
def test_a_damaged_rotation_is_history(two, change):
    with two.sql() as sql:
        sql.execute("PRAGMA ignore_check_constraints = ON")
        sql.execute(f"UPDATE OR IGNORE rotations SET {change}")
    assert two.api("GET", "/v1/rotation").status == 200
    two.restart()
    two.sso("rotate", "--no-backup", check=0)
    assert states(two)[3] == ("active", ROWS)
    assert two.rotation()["state"] == "completed"


# --- lists ---

OLD_GENERATION = ["UPDATE generations SET tag = x'' WHERE number = 1",
                  "UPDATE generations SET compromised = 1 WHERE number = 1",
                  "UPDATE generations SET state = 'x' WHERE number = 1",
                  "UPDATE generation_tokens SET weak = -1 WHERE generation = 1",
                  "UPDATE generation_tokens SET tag = x'' WHERE generation = 1"]


@pytest.mark.parametrize("statement", OLD_GENERATION)
def test_a_damaged_old_generation(two, statement):
    with two.sql() as sql:
        sql.execute("PRAGMA ignore_check_constraints = ON")
        assert sql.execute(statement).rowcount == 1
    two.restart()
    assert_others_open(two, but=None)
    two.put("app", "fresh", "new", status=201)
    listed = {one["number"]: one for one in
              two.api("GET", "/v1/generations", status=200).json["generations"]}
    if "generation_tokens" not in statement:
        assert listed[1]["state"] == "damaged"
    assert listed[1]["tokens"] == [] or "generation_tokens" not in statement
    assert listed[2]["state"] == "active"
    events = two.sso("status", check=0).json["health"]["events"]
    assert "policy_tampered" in [event["name"] for event in events]
    two.sso("rotate", "--no-backup", check=0)
    assert_others_open(two, but=None)


def test_a_row_on_a_damaged_generation(two):
    execute(two, "UPDATE generations SET compromised = 1 WHERE number = 1")
    execute(two, "UPDATE credentials SET generation = 1 WHERE principal = ?", VICTIM)
    assert two.look_up("app", VICTIM).code == "policy_tampered"
    assert_rotates_all_but_the_victim(two, "policy_tampered")
    assert states(two)[2][0] == "retiring"


@pytest.mark.parametrize("column, value", [("state", 99), ("tag", b""), ("suite", "x")])
def test_a_damaged_active_generation(two, column, value):
    with two.sql() as sql:
        sql.execute("PRAGMA ignore_check_constraints = ON")
        sql.execute(f"UPDATE generations SET {column} = ? WHERE number = 2", [value])
    assert two.look_up("app", VICTIM).code == "policy_tampered"
    two.stop()
    two.start(wait=None)
    assert two.look_up("app", VICTIM).code == "policy_tampered"
    assert two.put("app", VICTIM, "never").code == "policy_tampered"


def test_one_damaged_row_of_each_list(two):
    two.create_app("second")
    two.sso("app", "create", "third", "--type", "individual", "--field", "a", check=0)
    with two.sql() as sql:
        sql.execute("PRAGMA ignore_check_constraints = ON")
        sql.execute("UPDATE applications SET type = 99 WHERE name = 'third'")
        sql.execute("UPDATE mappings SET state = 99 WHERE principal = ?", [VICTIM])
        sql.execute("INSERT INTO quarantine (row_id, generation, code, reason, since_ms, tries, seen,"
                    " retry) VALUES (x'01', 'x', 7, x'ff', 'then', -1, 9, 'no')")
    apps = two.api("GET", "/v1/apps", status=200).json["apps"]
    assert [app["name"] for app in apps] == ["app", "second"]
    page = two.api("GET", "/v1/apps/app/credentials", status=200).json["credentials"]
    assert {one["principal"]: one["enabled"] for one in page} == {
        principal_of(n): None if principal_of(n) == VICTIM else True for n in range(ROWS)}
    assert two.look_up("app", VICTIM).code == "policy_tampered"
    assert [one["code"] for one in quarantine(two)] == ["row_corrupt"]
    assert two.sso("db", "check", "--open").code not in (0, 5)
    assert_others_open(two)


# --- writing and size ---

def test_a_write_makes_no_mapping_for_a_row_that_lost_its_own(two):
    two.api("PUT", "/v1/apps/app/mappings/" + VICTIM, {"enabled": False}, status=200)
    execute(two, "DELETE FROM mappings WHERE principal = ?", VICTIM)
    assert two.put("app", VICTIM, "again").code == "row_corrupt"
    assert two.look_up("app", VICTIM).code == "row_corrupt"
    two.put("app", "new", "one", status=201)


def test_the_largest_credential(running):
    """32 fields of 65,536 bytes, with 8 MiB of memory that may be locked."""
    running.stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, hard))
        running.start()
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    fields = {f"field{n:02d}": f"{n:02d}" + "x" * 65534 for n in range(32)}
    running.create_app("big", fields=tuple(fields))
    for version in (1, 2, 3):
        reply = running.api("PUT", "/v1/apps/big/credentials/anna",
                            {"external_user": "ext", "fields": fields})
        assert reply.status == (201 if version == 1 else 200), reply
        assert running.look_up("big", "anna", status=200).json["fields"] == fields
    running.sso("rotate", "--no-backup", check=0)
    running.check_open()
