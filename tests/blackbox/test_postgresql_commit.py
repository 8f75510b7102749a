"""PostgreSQL and what is between it and us: the answer to a commit that is lost, a server that says
nothing, what is written to an application that is deleted meanwhile."""
import contextlib
import os
import socket
import struct
import subprocess
import threading

import pytest

from backups import Backup
from installation import SANITIZED, principal_of, wait_for
from postgresql_server import Server


def outcomes(sanitized):
    """Does the commit stand, or not? Both, but where that takes long."""
    short = SANITIZED and not os.environ.get("SSO_HSM_LONG")
    return pytest.mark.parametrize("stands", [sanitized] if short else [True, False])


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


class Line:
    """TCP to the server, and where it is cut."""

    def __init__(self, server, schema):
        self.target = f"{server.folder}/.s.PGSQL.5432"
        self.after = None
        self.deliver = self.cut = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.url = (f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
                    f"&options=-csearch_path%3D{schema}")
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=[self.listener.accept()[0]], daemon=True).start()

    def cut_commit(self, after, deliver):
        """The connection that says `after` loses its next commit: before the server has it (False),
        when it has answered (True), or while it is at it (anything else)."""
        self.after, self.deliver, self.cut = after, deliver, False

    def serve(self, near):
        far = socket.socket(socket.AF_UNIX)
        far.connect(self.target)
        lost = threading.Event()
        threading.Thread(target=self.answer, args=[far, near, lost], daemon=True).start()
        armed = False
        with contextlib.suppress(OSError), near, far:
            while data := near.recv(1 << 16):
                armed = armed or (self.after is not None and self.after in data)
                if armed and b"COMMIT\0" in data:
                    self.after, self.cut = None, True
                    lost.set()
                    if self.deliver:
                        far.sendall(data)
                    if self.deliver is True:
                        far.shutdown(socket.SHUT_WR)
                        while far.recv(1 << 16):
                            pass
                    far.shutdown(socket.SHUT_RDWR)
                    near.shutdown(socket.SHUT_RDWR)
                    return
                far.sendall(data)

    @staticmethod
    def answer(far, near, lost):
        with contextlib.suppress(OSError):
            while not lost.is_set() and (data := far.recv(1 << 16)):
                if not lost.is_set():
                    near.sendall(data)
            if not lost.is_set():
                near.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


@pytest.fixture
def line(server):
    schema = server.make_schema()
    line = Line(server, schema)
    line.schema = schema
    yield line
    line.close()


@pytest.fixture
def backup(make_installation, line):
    installation = make_installation(database={"url": line.url})
    installation.write_config(system={"state_directory": installation.directory})
    return Backup(installation=installation)


def interrupted(it):
    check, = [check for check in it.sso("doctor").json["checks"] if check["id"] == "ceremony.interrupted"]
    return check["result"]


@contextlib.contextmanager
def held(server, statement):
    """A session of its owner that keeps what the statement took."""
    with subprocess.Popen(["psql", "-XqAt", "-h", server.folder, "-U", "postgres", "-d", "postgres"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as session:
        session.stdin.write(statement + ";\n\\echo taken\n")
        session.stdin.flush()
        while session.stdout.readline().strip() != "taken":
            assert session.poll() is None
        yield
        session.stdin.close()


def lose(it, line, command, after, deliver):
    line.cut_commit(after, deliver)
    done = it.sso(*command, check=5)
    assert line.cut and done.problem["code"] == "database_unavailable", done
    assert "not known whether" in done.err and "nothing of it is taken back" in done.err
    assert interrupted(it) == "WARN"


@outcomes(True)
def test_a_key_is_generated(backup, line, stands):
    it, file = backup.installation, backup.installation.directory / "generation-2.backup"
    shares = it.directory / "second"
    shares.mkdir()
    lose(it, line, ("key", "generate", "--shares", "2/2", "--shares-dir", shares, "--backup", file),
         b"INSERT INTO generation_tokens", stands)
    assert file.exists() and len(list(shares.iterdir())) == 2
    again = it.sso("key", "generate", "--no-backup", check=0)
    assert ("generation 2 is as it should be" if stands else "was taken out of the token") in again.err
    assert file.exists() is stands and len(list(shares.iterdir())) == (2 if stands else 0)
    assert again.json["number"] == (3 if stands else 2)
    if stands:
        assert it.sso("key", "drill", file, "--shares-dir", shares, check=0)
    assert interrupted(it) == "PASS"
    it.check_open()


@outcomes(False)
def test_backups_go_to_new_officers(backup, line, stands):
    it = backup.installation
    folder, new = it.directory / "backups", it.directory / "new"
    folder.mkdir()
    new.mkdir()
    backup.file = backup.file.rename(folder / backup.file.name)
    lose(it, line, ("key", "reshare", "--shares", "2/2", "--shares-dir", backup.bring(1, 2),
                    "--new-shares-dir", new, "--backup-dir", folder), b"INSERT INTO share_sets", stands)
    it.sso("key", "generate", "--no-backup", check=0)
    made = [path for path in folder.glob("generation-1-*.backup")]
    assert len(made) == (1 if stands else 0) and len(list(new.iterdir())) == (2 if stands else 0)
    if stands:
        it.sso("key", "drill", made[0], "--shares-dir", new, check=0)
    else:
        backup.drill(1, 2, check=0)
    assert interrupted(it) == "PASS"


@outcomes(True)
def test_a_key_comes_back(backup, line, stands):
    it = backup.installation
    backup.lose_token()
    lose(it, line, ("key", "restore", backup.file, "--shares-dir", backup.bring(1, 2)),
         b"INSERT INTO generation_tokens", stands)
    again = backup.restore(1, 2, check=0)
    assert again.json["already_there"] is stands, again
    assert interrupted(it) == "PASS"
    it.check_open()


def test_a_commit_that_still_waits(backup, line, server):
    """As for a standby: the next ceremony takes nothing for undone before it has ended."""
    it = backup.installation
    server.sql("CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
               "WHILE NOT pg_try_advisory_xact_lock_shared(4711) LOOP PERFORM pg_sleep(0.02); END LOOP; "
               "RETURN NULL; END $$", line.schema)
    server.sql("CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON generations DEFERRABLE INITIALLY DEFERRED "
               "FOR EACH ROW EXECUTE FUNCTION waits()", line.schema)
    with held(server, "SELECT pg_advisory_lock(4711)"):
        line.cut_commit(b"INSERT INTO generation_tokens", "while it waits")
        assert it.sso("key", "generate", "--no-backup", check=5) and line.cut
        assert it.sso("key", "generate", "--no-backup", check=5).problem["code"] == "database_unavailable"
        assert interrupted(it) == "WARN"
    wait_for(lambda: server.sql("SELECT count(*) FROM generations", line.schema) == [["2"]], "it stands")
    again = it.sso("key", "generate", "--no-backup", check=0)
    assert "generation 2 is as it should be" in again.err
    server.sql("DROP TRIGGER waits ON generations", line.schema)
    it.check_open()


def test_the_system_is_made(make_installation, line):
    it = make_installation(database={"url": line.url})
    it.write_config(system={"state_directory": it.directory})
    it.sso("db", "upgrade")
    lose(it, line, ("init", "--no-backup"), b"INSERT INTO generation_tokens", True)
    assert it.sso("init", "--no-backup", check=1).problem["code"] == "already_exists"
    it.start()
    it.create_app()
    it.put("app", "anna", "x", status=201)
    assert it.password("app", "anna") == "x"


def test_what_is_deleted_while_it_is_written_to(make_installation, server):
    """PostgreSQL tells of that only at the commit: the one write is refused, in the audit too, those
    beside it go in, and the database is not called away."""
    schema = server.make_schema()
    it = make_installation(database={"url": server.url(schema)})
    it.write_config(system={"state_directory": it.directory})
    it.init()
    it.start()
    it.create_app()
    server.sql("""CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE foreign_key_violation; END $$""", schema)
    server.sql("""CREATE CONSTRAINT TRIGGER gone AFTER INSERT ON credentials DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.principal = 'p000003') EXECUTE FUNCTION gone()""", schema)
    replies = {}

    def put(n):
        replies[n] = it.put("app", principal_of(n), "x")

    for numbers in ([3], range(8)):
        threads = [threading.Thread(target=put, args=[n]) for n in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = replies.pop(3)
        assert refused.status == 412 and refused.code == "version_conflict", refused
        assert "application was deleted" in refused.json["detail"]
    assert {reply.status for reply in replies.values()} == {201}
    health = it.api("GET", "/v1/health", status=200).json
    assert not {"database_unavailable", "audit_unavailable"} & {each["name"] for each in health["events"]}
    told = [each["outcome"] for each in it.sso("audit", "export", check=0).lines
            if each["target"] == "app/p000003"]
    assert len(told) >= 2 and set(told) == {"version_conflict"}, told
    it.sso("audit", "verify", check=0)


def message(kind, body):
    return kind + struct.pack(">i", len(body) + 4) + body


def test_a_server_that_lets_us_in_and_then_is_silent(make_installation):
    """As a pooler that has lost its server: told within seconds, not waited for."""
    listener, kept = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                kept.append(near)
                near.recv(1 << 16)
                near.sendall(message(b"R", struct.pack(">i", 0)) +
                             message(b"S", b"server_version\x0015.0\0") +
                             message(b"S", b"server_encoding\0UTF8\0") +
                             message(b"S", b"default_transaction_read_only\0off\0") +
                             message(b"S", b"in_hot_standby\0off\0") + message(b"Z", b"I"))

    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    it = make_installation(database={"url": f"postgresql://x@127.0.0.1:{port}/x?sslmode=disable"})
    it.write_config(system={"state_directory": it.directory})
    done = it.sso("db", "check", check=5)
    assert done.problem["code"] == "database_unavailable" and "gave no answer" in done.problem["detail"], done
    assert kept
    it.start(wait=None)
    wait_for(lambda: "database_unavailable" in it.api("GET", "/v1/health").body.decode(), "health tells")
    assert it.stop() == 0
    listener.close()
    for each in kept:
        each.close()
