"""The credential database on PostgreSQL: a life with rotation and kills, the server going away under
load, what its owner can change, copies and backups."""
import contextlib
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import traffic
from installation import password_of, principal_of, wait_for
from postgresql_server import Server

ROWS = 400


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def on_postgresql(make_installation, server):
    """Configured for an empty database; `database` names it."""
    name = server.make_schema()
    installation = make_installation(database={"url": server.url(name)})
    installation.write_config(system={"state_directory": installation.directory})
    installation.name = name
    return installation


@pytest.fixture
def serving(on_postgresql):
    on_postgresql.init()
    on_postgresql.start()
    on_postgresql.create_app()
    return on_postgresql


@contextlib.contextmanager
def writer(installation):
    journal = installation.directory / "journal"
    process = subprocess.Popen([sys.executable, Path(traffic.__file__), installation.socket, journal, "1"])
    try:
        yield journal
    finally:
        process.terminate()
        assert process.wait(60) == 0


def exported(installation):
    lines = installation.sso("cred", "export", "app", check=0).lines
    return {line["principal"]: line["fields"]["password"] for line in lines}


def assert_all_right(installation, rows, journal=None):
    found = exported(installation)
    assert all(found.get(principal_of(n)) == password_of(n) for n in range(rows))
    if journal:
        assert traffic.compare(journal, found) == []
    assert installation.check_open()["rows"] == len(found)
    assert installation.sso("audit", "verify", check=0)


def test_rotation_with_writers_and_a_kill(serving, server):
    serving.fill(ROWS)
    generations = "SELECT DISTINCT generation FROM credentials ORDER BY 1"
    with writer(serving) as journal:
        serving.sso("rotate", "--no-backup", "--rate", "200", "--detach", check=0)
        wait_for(lambda: serving.rotation()["done"] > 0, "the rotation moves rows")
        serving.kill()
        serving.start()
        serving.wait_rotation("completed")
        assert server.sql(generations, serving.name) == [["2"]]
        serving.sso("rotate", "--no-backup", check=0)
    assert server.sql(generations, serving.name) == [["3"]]
    assert_all_right(serving, ROWS, journal)


def test_the_server_goes_away_under_load_and_comes_back(serving, server):
    serving.fill(20)
    stop, answers = threading.Event(), []

    def look():
        for n in itertools.cycle(range(20)):
            if stop.is_set():
                return
            reply = serving.look_up("app", principal_of(n))
            answers.append(reply.status if reply.status == 200 else reply.json["code"])
            if reply.status == 200:
                assert reply.json["fields"]["password"] == password_of(n)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for word in ("stop", "kill"):
            wait_for(lambda: answers[-3:] == [200] * 3, "lookups work")
            server.obey(word)
            wait_for(lambda: answers[-3:].count("database_unavailable") == 3, "lookups are refused")
            wait_for(lambda: serving.api("GET", "/v1/health").json["status"] != "ok", "health tells")
            server.obey("start")
            wait_for(lambda: answers[-3:] == [200] * 3, "lookups work again by themselves")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(answers) <= {200, "database_unavailable", "audit_unavailable"}
    serving.put("app", principal_of(0), "new", status=200)
    assert serving.password("app", principal_of(0)) == "new"
    assert serving.custodian.poll() is None


def test_what_its_owner_can_and_cannot_do(serving, server):
    for n in range(4):
        serving.put("app", principal_of(n), password_of(n), status=201)

    def edit(statement):
        server.sql(statement, serving.name)

    def code(n):
        reply = serving.look_up("app", principal_of(n))
        return reply.status if reply.status == 200 else reply.json["code"]

    edit("UPDATE credentials SET ciphertext = set_byte(ciphertext, 3, get_byte(ciphertext, 3) # 1)"
         f" WHERE principal = '{principal_of(0)}'")
    edit("UPDATE credentials SET wrapped_row_key = set_byte(wrapped_row_key, 0,"
         f" get_byte(wrapped_row_key, 0) # 128) WHERE principal = '{principal_of(1)}'")
    edit(f"UPDATE mappings SET external_user = 'root' WHERE principal = '{principal_of(2)}'")
    assert code(0) == "row_corrupt" and code(1) == "row_corrupt" and code(2) == "policy_tampered"
    assert code(3) == 200
    edit("CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
         " CREATE TRIGGER spy BEFORE INSERT ON credentials FOR EACH ROW EXECUTE FUNCTION spy()")
    report = serving.sso("db", "check", "--open", check=3).json
    assert any("trigger spy" in line for line in report["structure"])
    assert {failure["principal"] for failure in report["failures"]} >= {principal_of(0), principal_of(1)}
    # A rotation moves what it can, and says of the rest why not.
    done = serving.sso("rotate", "--no-backup", check=3).lines[-1]
    assert done["state"] == "completed_with_errors" and done["failed"] >= 1
    entries = serving.sso("rotate", "status", "--quarantine", check=0).json["quarantine"]
    assert principal_of(1) in {entry["principal"] for entry in entries}
    edit("UPDATE applications SET readers = 'everybody', enabled = 1")
    assert code(3) == "policy_tampered"


def test_backup_of_it(serving):
    serving.fill(30)
    path = serving.directory / "copy.db"
    made = serving.sso("db", "backup", path, check=0).json
    assert serving.sso("db", "backup-info", path, check=0).json == made
    assert made["generations"][0]["rows"] == 30 and made["signature"]
    # What the file holds is a database like any other.
    serving.stop()
    serving.write_config(database={"url": f"sqlite:{path}"})
    assert serving.check_open()["rows"] == 30


def test_copy_from_sqlite_and_back(running, server):
    running.fill(ROWS)
    running.sso("rotate", "--no-backup", check=0)
    name = server.make_schema()
    url = server.url(name)
    refused = running.sso("db", "copy", url, check=1).problem
    assert refused["code"] == "in_use" and "stop it first" in refused["detail"]
    running.stop()
    done = running.sso("db", "copy", url, check=0).json
    assert done["to"] == "postgresql" and done["rows"] > 2 * ROWS
    assert running.sso("db", "copy", url, check=1).problem["code"] == "already_exists"
    old = running.settings["database"]["url"]
    # Without a folder of its own in the configuration it is that of the SQLite file.
    running.write_config(database={"url": url}, system={"state_directory": running.directory})
    running.start()
    assert server.sql("SELECT count(*) FROM credentials", name) == [[str(ROWS)]]
    running.put("app", principal_of(1), "on PostgreSQL", status=200)
    assert running.password("app", principal_of(0)) == password_of(0)
    assert running.check_open()["rows"] == ROWS
    assert running.sso("audit", "verify", check=0)
    running.stop()
    back = running.directory / "back.db"
    running.sso("db", "copy", f"sqlite:{back}", check=0)
    assert old != f"sqlite:{back}"
    running.write_config(database={"url": f"sqlite:{back}"})
    running.start()
    assert running.password("app", principal_of(1)) == "on PostgreSQL"


def test_no_password_in_the_url(blank):
    blank.write_config(system={"state_directory": blank.directory})
    for url in ("postgresql://sso:secret@localhost/sso", "postgresql:///sso?password=secret"):
        blank.write_config(database={"url": url})
        refused = blank.sso("init", "--no-backup", check=1)
        assert refused.problem["code"] == "config_error"
        assert "passfile" in refused.problem["detail"] and "secret" not in refused.problem["detail"]


def test_the_service_may_do_its_work_and_no_more(make_installation, server):
    roles = (Path(__file__).resolve().parents[2] / "docs" / "postgresql-roles.sql").read_text()
    server.sql(roles)
    base = f"postgresql:///postgres?host={server.folder}&user="
    it = make_installation(database={"url": base + "sso_hsm"})
    it.write_config(system={"state_directory": it.directory})
    refused = it.sso("init", "--no-backup", check=5).problem
    assert "may not make tables" in refused["detail"] and "sso_hsm" in refused["detail"]
    it.write_config(database={"url": base + "sso_hsm_admin"})
    it.init()
    server.sql(roles)
    it.write_config(database={"url": base + "sso_hsm"})
    it.start()
    it.create_app()
    it.fill(30)
    it.sso("rotate", "--no-backup", check=0)
    it.put("app", principal_of(0), "new", status=200)
    it.sso("mapping", "disable", "app", principal_of(1), check=0)
    it.sso("cred", "delete", "app", principal_of(2), check=0)
    it.sso("key", "generate", "--no-backup", check=0)
    it.sso("db", "backup", it.directory / "copy.db", check=0)
    it.check_open()
    it.sso("app", "delete", "app", check=0)
    for statement in ("DROP TABLE audit", "ALTER TABLE audit ADD COLUMN x text", "DELETE FROM audit",
                      "UPDATE audit SET actor = 'somebody'", "DELETE FROM generations",
                      "TRUNCATE credentials", "CREATE TABLE x (y int)", "UPDATE system SET name = 'x'",
                      "CREATE TEMPORARY TABLE x (y int)", "DELETE FROM schema_migrations"):
        done = server.psql(statement, user="sso_hsm")
        assert "permission denied" in done.stderr or "must be owner" in done.stderr, (statement, done)
    # What the administrator of the database may do to rows is in test_what_its_owner_can_and_cannot_do.
    assert it.sso("audit", "verify", check=0)
