"""What the owner of the database can change, and what it gets him: an error that names the row."""

import contextlib

import pytest

from installation import principal_of, password_of

ROWS = 6
VICTIM, OTHER = "p000002", "p000004"
COLUMNS = ["row_id", "application_id", "principal", "external_user", "generation", "born",
           "row_key_id", "wrapped_row_key", "nonce", "ciphertext", "version", "updated", "format"]
TEXT = {"principal", "external_user"}


@pytest.fixture(scope="module")
def it(shared):
    """Two applications, rows on two generations, and two rows that differ in every column that can."""
    shared.create_app("second")
    for n in range(ROWS):
        shared.put("app", principal_of(n), password_of(n), external_user=f"ext{n}", status=201)
    for _ in range(2):
        shared.put("app", OTHER, password_of(4), external_user="ext4", status=200)
    shared.put("second", "elsewhere", "of second", status=201)
    # A row key that does not open cannot be moved: this row stays on generation 1.
    with changed(shared, OTHER, "wrapped_row_key", b"\0" * 40):
        shared.sso("rotate", "--no-backup", check=3)
        # Once repaired it would be moved by itself; but not by a rotation that was cancelled.
        with shared.sql() as sql:
            sql.execute("UPDATE rotations SET state = 4")
        assert shared.rotation()["state"] == "cancelled"
    shared.put("app", VICTIM, password_of(2), external_user="ext2", status=200)
    return shared


@contextlib.contextmanager
def changed(it, principal, column, value):
    """One column of one row is `value`; it is put back afterwards."""
    with it.sql() as sql:
        where, before = sql.execute(f"SELECT rowid, {column} FROM credentials WHERE principal = ?",
                                    [principal]).fetchone()
        try:
            sql.execute(f"UPDATE credentials SET {column} = ? WHERE rowid = ?", [value, where])
            yield
        finally:
            sql.execute(f"UPDATE credentials SET {column} = ? WHERE rowid = ?", [before, where])


def row(it, principal):
    with it.sql() as sql:
        return sql.execute("SELECT * FROM credentials WHERE principal = ?", [principal]).fetchone()


def other_application(it):
    with it.sql() as sql:
        return sql.execute("SELECT id FROM applications WHERE name = 'second'").fetchone()[0]


def flipped(value, bit):
    if isinstance(value, bytes):
        data = bytearray(value)
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        return bytes(data)
    if isinstance(value, int):
        return value ^ 1 << bit
    data = bytearray(value.encode())
    data[0] ^= 1 << bit
    return data.decode()


def assert_corrupt(it, app, principal):
    reply = it.look_up(app, principal)
    assert reply.status == 500 and reply.code == "row_corrupt", reply
    assert b"secret-of" not in reply.body


def assert_nothing_else_suffers(it, but=()):
    for n in range(ROWS):
        if principal_of(n) not in but:
            assert it.password("app", principal_of(n)) == password_of(n)
    assert it.password("second", "elsewhere") == "of second"
    health = it.api("GET", "/v1/health").json
    assert health["encrypt"] and health["decrypt"]


def where_it_is_now(column, value):
    """The name under which a row with this column changed is looked up."""
    if column == "principal":
        return "app", value
    if column == "application_id":
        return "second", VICTIM
    return "app", VICTIM


def values_with_one_bit_changed(it, column):
    before = row(it, VICTIM)[column]
    if column == "application_id":
        # Any other value is an application that does not exist; this is the one that does.
        return [other_application(it)]
    if column in TEXT:
        return [flipped(before, bit) for bit in (0, 3)] + [before + "\u0301"]
    bits = {"generation": (0, 1, 3, 31), "version": (0, 1, 3, 40, 62), "updated": (0, 1, 3, 40, 62),
            "born": (0, 1, 3, 31, 40), "format": (0, 1, 15, 16, 40)}
    return [flipped(before, bit) for bit in bits.get(column, (0, 3, 77, 127))]


@pytest.mark.parametrize("column", COLUMNS)
def test_one_bit_of_each_column(it, column):
    for value in values_with_one_bit_changed(it, column):
        with changed(it, VICTIM, column, value):
            app, principal = where_it_is_now(column, value)
            assert_corrupt(it, app, principal)
            if (app, principal) != ("app", VICTIM):
                assert it.look_up("app", VICTIM).code == "not_found"
            assert_nothing_else_suffers(it, but=[VICTIM])
        assert it.password("app", VICTIM) == password_of(2)


def test_every_bit_of_the_wrapped_row_key(it):
    before = row(it, VICTIM)["wrapped_row_key"]
    for bit in range(8 * len(before)):
        with changed(it, VICTIM, "wrapped_row_key", flipped(before, bit)):
            assert_corrupt(it, "app", VICTIM)
    assert_nothing_else_suffers(it)


@pytest.mark.parametrize("column", ["wrapped_row_key", "ciphertext", "nonce"])
def test_cut_lengthened_and_empty(it, column):
    before = row(it, VICTIM)[column]
    for value in (before[:-1], before + b"\0", b"", before[:1], before * 2, b"\0" * len(before)):
        with changed(it, VICTIM, column, value):
            assert_corrupt(it, "app", VICTIM)
            assert_nothing_else_suffers(it, but=[VICTIM])


@pytest.mark.parametrize("column", [column for column in COLUMNS
                                    if column not in ("row_id", "principal", "application_id",
                                                      "format")])
def test_each_column_swapped_with_another_rows(it, column):
    one, other = row(it, VICTIM)[column], row(it, OTHER)[column]
    assert one != other
    with changed(it, VICTIM, column, other), changed(it, OTHER, column, one):
        assert_corrupt(it, "app", VICTIM)
        assert_corrupt(it, "app", OTHER)
        assert_nothing_else_suffers(it, but=[VICTIM, OTHER])
    assert_nothing_else_suffers(it)


@pytest.mark.parametrize("column", ["row_id", "principal"])
def test_unique_columns_swapped_with_another_rows(it, column):
    """They pass through a third value."""
    one, other = row(it, VICTIM)[column], row(it, OTHER)[column]
    third = b"\x55" * 16 if column == "row_id" else "between"

    def swap():
        with it.sql() as sql:
            for old, new in ((one, third), (other, one), (third, other)):
                sql.execute(f"UPDATE credentials SET {column} = ? WHERE {column} = ?", [new, old])

    swap()
    try:
        assert_corrupt(it, "app", VICTIM)
        assert_corrupt(it, "app", OTHER)
        assert_nothing_else_suffers(it, but=[VICTIM, OTHER])
    finally:
        swap()
    assert_nothing_else_suffers(it)


def test_application_swapped_with_another_rows(it):
    """Each is looked up under the application in which it stands now."""
    with it.sql() as sql:
        second = other_application(it)
        first = row(it, VICTIM)["application_id"]
        sql.execute("UPDATE credentials SET application_id = ? WHERE principal = ?", [second, VICTIM])
        sql.execute("UPDATE credentials SET application_id = ? WHERE principal = 'elsewhere'", [first])
        try:
            assert_corrupt(it, "second", VICTIM)
            assert_corrupt(it, "app", "elsewhere")
            assert it.look_up("app", VICTIM).code == "not_found"
        finally:
            sql.execute("UPDATE credentials SET application_id = ? WHERE principal = ?",
                        [first, VICTIM])
            sql.execute("UPDATE credentials SET application_id = ? WHERE principal = 'elsewhere'",
                        [second])
    assert_nothing_else_suffers(it)


def test_key_and_ciphertext_of_another_row_together(it):
    """Everything that is sealed moved at once: the binding still holds it to its row."""
    other = row(it, OTHER)
    with contextlib.ExitStack() as stack:
        for column in ("row_key_id", "wrapped_row_key", "nonce", "ciphertext", "generation", "born",
                       "version", "updated"):
            stack.enter_context(changed(it, VICTIM, column, other[column]))
        assert_corrupt(it, "app", VICTIM)
        assert_nothing_else_suffers(it, but=[VICTIM])


def test_db_check_names_the_row(it):
    with changed(it, VICTIM, "external_user", "somebody else"):
        done = it.sso("db", "check", "--open", check=3).json
        assert not done["ok"] and done["failed"] == 1 and done["opened"] == done["rows"] - 1
        failure = done["failures"][0]
        assert failure["principal"] == VICTIM and failure["app"] == "app"
        assert failure["code"] == "row_corrupt"
    assert it.check_open()["rows"] == ROWS + 1


# --- rows that decide who gets what ---

@contextlib.contextmanager
def edited(it, statement, *values):
    """Runs an UPDATE on a tagged table; all of the table is put back afterwards."""
    table = statement.split()[2 if statement.startswith("DELETE") else 1]
    with it.sql() as sql:
        before = sql.execute(f"SELECT * FROM {table}").fetchall()
        try:
            assert sql.execute(statement, values).rowcount >= 1
            yield
        finally:
            put_back(sql, table, before)


def put_back(sql, table, rows):
    sql.execute("BEGIN IMMEDIATE")
    sql.execute(f"DELETE FROM {table}")
    for each in rows:
        sql.execute(f"INSERT INTO {table} ({', '.join(each.keys())}) VALUES"
                    f" ({', '.join('?' * len(each))})", tuple(each))
    sql.execute("COMMIT")


def assert_tampered(it, reply):
    assert reply.status == 500 and reply.code == "policy_tampered", reply
    assert b"secret-of" not in reply.body
    events = it.sso("status", check=0).json["health"]["events"]
    assert "policy_tampered" in [event["name"] for event in events]


@pytest.mark.parametrize("column, value", [
    ("readers", "users"), ("admins", "users"), ("enabled", 0), ("description", "other"),
    ("contact", "other"), ("users", '["users"]'), ("version", 99), ("type", 2), ("updated_ms", 1),
    ("created_ms", 1), ("name", "App"), ("fields", "[]"), ("fields", "nonsense"), ("tag", b""),
    ("fields", '[{"label":"user","masked":false},{"label":"password","masked":false}]'),
])
def test_an_edited_application(it, column, value):
    with edited(it, f"UPDATE applications SET {column} = ? WHERE name = 'app'", value):
        assert_tampered(it, it.look_up("app", VICTIM))
        assert_tampered(it, it.put("app", VICTIM, "never"))
        assert it.password("second", "elsewhere") == "of second"
    assert_nothing_else_suffers(it)


def test_an_application_with_the_rights_of_another(it):
    """The whole row of another application, tag included, under this one's id."""
    with it.sql() as sql:
        names = [each["name"] for each in sql.execute("PRAGMA table_info(applications)")
                 if each["name"] not in ("id", "name")]
        second = sql.execute("SELECT * FROM applications WHERE name = 'second'").fetchone()
    with edited(it, "UPDATE applications SET " + ", ".join(f"{name} = ?" for name in names) +
                " WHERE name = 'app'", *(second[name] for name in names)):
        assert_tampered(it, it.look_up("app", VICTIM))


def test_an_edited_mapping(it):
    it.sso("mapping", "disable", "app", VICTIM, check=0)
    try:
        assert it.look_up("app", VICTIM).code == "mapping_disabled"
        with edited(it, "UPDATE mappings SET state = 1 WHERE principal = ?", VICTIM):
            assert_tampered(it, it.look_up("app", VICTIM))
            assert_nothing_else_suffers(it, but=[VICTIM])
        with edited(it, "UPDATE mappings SET state = 77 WHERE principal = ?", VICTIM):
            assert_tampered(it, it.look_up("app", VICTIM))
        with edited(it, "UPDATE mappings SET tag = zeroblob(32) WHERE principal = ?", VICTIM):
            assert_tampered(it, it.look_up("app", VICTIM))
    finally:
        it.sso("mapping", "enable", "app", VICTIM, check=0)
    assert_nothing_else_suffers(it)


def test_a_mapping_taken_away(it):
    """Deleting the mapping of a disabled user must not give the credential back."""
    with edited(it, "DELETE FROM mappings WHERE principal = ?", VICTIM):
        assert_corrupt(it, "app", VICTIM)
        assert_nothing_else_suffers(it, but=[VICTIM])
    assert it.password("app", VICTIM) == password_of(2)


def test_edited_settings(it):
    for name, value in (("system.enabled", "no"), ("system.revocation", "99")):
        with edited(it, "UPDATE settings SET value = ? WHERE name = ?", value, name):
            assert_tampered(it, it.look_up("app", VICTIM))
    assert_nothing_else_suffers(it)


def test_a_setting_taken_away(it):
    """A missing setting is tampering, not a default."""
    with edited(it, "DELETE FROM settings WHERE name = 'system.enabled'"):
        assert_tampered(it, it.look_up("app", VICTIM))
    assert_nothing_else_suffers(it)


@pytest.mark.parametrize("column, value", [("state", 1), ("compromised", 1), ("suite", 2),
                                           ("tag", b"\0" * 32)])
def test_edited_generations(it, column, value):
    with edited(it, f"UPDATE generations SET {column} = ? WHERE number = 2", value):
        assert_tampered(it, it.look_up("app", VICTIM))
        assert it.put("app", VICTIM, "never").status == 500
    assert_nothing_else_suffers(it)


def test_an_old_generation_made_active_again(it):
    with edited(it, "UPDATE generations SET state = CASE number WHEN 1 THEN 2 ELSE 3 END"):
        assert_tampered(it, it.put("app", "fresh", "never"))
    assert it.look_up("app", "fresh").status == 404


def test_a_damaged_policy_key_gives_nobody_anything(initialised):
    with initialised.sql() as sql:
        sealed = sql.execute("SELECT * FROM sealed_keys").fetchone()
        sql.execute("UPDATE sealed_keys SET wrapped = ?", [flipped(sealed["wrapped"], 9)])
    initialised.start(wait=None)
    reply = initialised.look_up("app", "anna")
    assert reply.status in (500, 503) and reply.code in ("row_corrupt", "policy_tampered",
                                                         "no_master_secret"), reply
    assert initialised.api("GET", "/v1/status").status == 200
