"""The head of the audit chain in the systemd journal: a socket of the test's own stands for it."""

import contextlib
import socket

import pytest

from installation import wait_for


class Journal:
    """Takes entries by the journal's native protocol."""

    def __init__(self, path):
        self.path, self.sock, self.entries = path, None, []
        self.open()

    def open(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.path.chmod(0o666)
        self.sock.setblocking(False)

    def close(self):
        self.sock.close()
        self.path.unlink()

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self.sock.recv(65536).decode()
                self.entries.append(dict(line.split("=", 1) for line in text.splitlines()))
        return self.entries

    def heads(self):
        return [(int(entry["SSO_HSM_AUDIT_NUMBER"]), entry["SSO_HSM_AUDIT_HASH"])
                for entry in self.read() if entry["SSO_HSM_AUDIT_WITHDRAWN"] == "0"]


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


def start(make_installation, journal, mode):
    for parent in journal.path.parents:
        if "pytest-" in str(parent):
            parent.chmod(0o755)
    it = make_installation(audit={"journal": mode, "journal_socket": journal.path})
    it.init()
    it.start()
    it.create_app()
    it.put("app", "anna", "x", status=201)
    return it


def chain(it):
    with it.sql() as sql:
        return {number: digest.hex() for number, digest in sql.execute("SELECT number, hash FROM audit")}


def event(it, name):
    return name in it.api("GET", "/v1/health").body.decode()


def test_best_effort(make_installation, journal):
    """Heads come, and lookups go on without a journal."""
    it = start(make_installation, journal, "best-effort")
    wait_for(lambda: it.look_up("app", "anna", status=200) and journal.heads(), "a head comes")
    known = chain(it)
    assert all(known[number] == digest for number, digest in journal.heads())
    assert journal.entries[0]["SSO_HSM_AUDIT_NODE"] == "node1"
    assert journal.entries[0]["SYSLOG_IDENTIFIER"] == "sso-custodian"
    journal.close()
    wait_for(lambda: it.look_up("app", "anna", status=200) and event(it, "journal_unavailable"), "the event")
    journal.open()
    wait_for(lambda: it.look_up("app", "anna", status=200) and not event(it, "journal_unavailable"),
             "the event ends")


def test_required(make_installation, journal):
    """No reply before its head is in the journal; without one nothing is done that must be audited."""
    it = start(make_installation, journal, "required")
    for _ in range(5):
        it.look_up("app", "anna", status=200)
        known = chain(it)
        assert journal.heads()[-1] == (max(known), known[max(known)])
    journal.close()
    assert it.look_up("app", "anna").code == "audit_unavailable"
    assert it.put("app", "anna", "y").code == "audit_unavailable"
    assert it.put("app", "berta", "y").code == "audit_unavailable"
    wait_for(lambda: event(it, "audit_unavailable") and event(it, "journal_unavailable"), "the events")
    journal.open()
    wait_for(lambda: it.look_up("app", "anna").status == 200, "the journal is back")
    assert it.password("app", "anna") == "x"
    assert it.look_up("app", "berta").code == "not_found"
    wait_for(lambda: not event(it, "audit_unavailable"), "the event ends")

    # It is there, and takes nothing any more: refused as well, and soon enough.
    wait_for(lambda: it.look_up("app", "anna").code == "audit_unavailable", "its queue is full")
    assert it.api("GET", "/v1/health").json["decrypt"], "health answers"
    journal.read()
    wait_for(lambda: journal.read() and it.look_up("app", "anna").status == 200, "it is read again")
    it.stop()
    assert it.sso("audit", "verify", check=0).json["ok"]


def test_off(make_installation, journal):
    it = start(make_installation, journal, "off")
    journal.close()
    it.look_up("app", "anna", status=200)
    it.restart()
    it.look_up("app", "anna", status=200)
    assert not event(it, "journal_unavailable")
