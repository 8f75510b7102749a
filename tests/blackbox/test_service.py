"""The custodian as a service: start, drain, what is missing, metrics, audit."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from installation import SANITIZED, credential_path, password_of, principal_of, wait_for


def test_drain_on_sigterm(running):
    """Requests that were accepted are answered; the exit code is 0; nothing is left behind."""
    running.fill(1000)
    replies, errors = [], []
    started = threading.Barrier(9)

    def work(number):
        with contextlib.closing(running.connection()) as connection:
            items = [{"app": "app", "principal": principal_of(n)} for n in range(1000)]
            started.wait()
            for _ in range(50):
                try:
                    replies.append(connection.call("POST", "/v1/lookup", {"items": items}))
                except (ConnectionRefusedError, FileNotFoundError):
                    return  # it has ended: nobody listens any more
                except (OSError, http.client.HTTPException) as error:
                    errors.append((number, repr(error)))
                    return

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    started.wait()
    wait_for(lambda: len(replies) >= 8, "some answers")
    assert running.stop() == 0
    for thread in threads:
        thread.join()
    served = [reply for reply in replies if reply.status == 200]
    assert served and all(reply.status in (200, 503) for reply in replies)
    assert all(len(reply.json["items"]) == 1000 for reply in served)
    # A connection kept open between two requests may be closed; none may be cut in an answer.
    assert not [error for error in errors if "IncompleteRead" in error[1]], errors
    assert not running.processes_left()
    assert not running.socket.exists()
    running.start()
    assert running.password("app", principal_of(0)) == password_of(0)


def test_stops_while_a_rotation_runs_and_goes_on_afterwards(running):
    running.fill(3000)
    running.sso("rotate", "--no-backup", "--rate", "500", "--detach", check=0)
    wait_for(lambda: running.rotation()["done"] > 0, "the rotation moves rows")
    assert running.stop() == 0
    running.start()
    running.api("PATCH", "/v1/rotation", {"rate": 0})
    assert running.wait_rotation("completed")["failed"] == 0
    running.check_open()


def test_before_init(blank):
    """No database, no master secret: the daemon stays up and says so."""
    blank.start(wait=None)
    assert blank.api("GET", "/v1/health").status == 503
    for call in (lambda: blank.look_up("app", "anna"), lambda: blank.put("app", "anna", "x")):
        reply = call()
        assert reply.status == 503 and reply.code in ("no_master_secret", "database_unavailable")
    status = blank.sso("status", check=0).json
    assert not status["health"]["encrypt"] and status["generation"] is None
    blank.init()
    # It takes up what another process made without a restart.
    wait_for(lambda: blank.api("GET", "/v1/health").json.get("encrypt"), "it serves after init")


def test_without_hsm_section(blank):
    del blank.settings["hsm"]
    blank.write_config()
    blank.start(wait=None)
    assert blank.look_up("app", "anna").status == 503
    assert blank.sso("status", check=0).json["generation"] is None


def test_starts_without_the_token(initialised):
    tokens = initialised.token.directory / "tokens"
    away = initialised.token.directory / "away"
    tokens.rename(away)
    initialised.start(wait=None)
    reply = initialised.look_up("app", "anna")
    assert reply.status == 503 and reply.code in ("hsm_unavailable", "token_not_found"), reply
    health = initialised.sso("status", check=0).json["health"]
    assert "hsm_unavailable" in [event["name"] for event in health["events"]]
    away.rename(tokens)
    wait_for(lambda: initialised.api("GET", "/v1/health").json.get("encrypt"), "the token is back")


def test_database_gone_and_back(running):
    running.put("app", "anna", "x", status=201)
    running.stop()
    away = running.directory / "away.db"
    running.database.rename(away)
    running.start(wait=None)
    reply = running.look_up("app", "anna")
    assert reply.status == 503 and reply.code == "database_unavailable", reply
    assert running.sso("status", check=0).json["database"]["available"] is False
    assert not running.database.exists(), "no empty database in its place"
    away.rename(running.database)
    wait_for(lambda: running.api("GET", "/v1/health").json.get("decrypt"), "the database is back")
    assert running.password("app", "anna") == "x"


def test_health_knows_what_requests_are_told(running):
    """The same moment, not at the next poll; and it is over soon after the database is back."""
    def names():
        return [event["name"] for event in health()["events"]]

    def health():
        return running.api("GET", "/v1/health").json

    running.put("app", "anna", "x", status=201)
    aside = {path: path.with_name("aside" + path.name) for path in running.directory.glob("credentials.db*")}
    for path, away in aside.items():
        path.rename(away)
    assert running.look_up("app", "anna").code == "database_unavailable"
    told = health()
    assert "database_unavailable" in names() and told["status"] == "error"
    assert not told["encrypt"] and not told["decrypt"]
    for path, away in aside.items():
        away.rename(path)
    wait_for(lambda: "database_unavailable" not in names(), "the event goes")
    assert running.password("app", "anna") == "x" and health()["decrypt"]
    running.put("app", "anna", "y", status=200)


def test_database_locked_by_another_program(running):
    """A write waits for its turn, then says that the database is not available; lookups whose audit
    cannot be written are refused, since no credential leaves without its record."""
    running.put("app", "anna", "x", status=201)
    with running.sql() as sql:
        sql.execute("BEGIN IMMEDIATE")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            written = pool.submit(running.put, "app", "anna", "y")
            found = pool.submit(running.look_up, "app", "anna")
            assert running.api("GET", "/v1/health").status in (200, 503)
        for reply in (written.result(), found.result()):
            assert reply.status == 503, reply
            assert reply.code in ("database_unavailable", "audit_unavailable"), reply
            assert b"fields" not in reply.body
        sql.execute("ROLLBACK")
    running.put("app", "anna", "z", status=200)
    assert running.password("app", "anna") == "z"


def test_health_waits_behind_nobody(running):
    """More requests than there are threads wait for the database; who watches is answered."""
    running.put("app", "anna", "x", status=201)
    with running.sql() as sql:
        sql.execute("BEGIN IMMEDIATE")
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(running.look_up, "app", "anna") for _ in range(40)]
            for path in ("/v1/health", "/v1/status", "/metrics", "/v1/rotation"):
                running.api("GET", path)
            assert not any(each.done() for each in waiting)
            sql.execute("ROLLBACK")
            for each in waiting:
                assert each.result().status in (200, 429, 503), each.result()
    assert running.password("app", "anna") == "x"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=False,
                          capture_output=True)
    if done.returncode != 0:
        pytest.skip("no mount(2) here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_full_disk(make_installation, small_disk):
    """An error, nothing half written, lookups refused only for want of their audit record, and it
    goes on when there is room."""
    it = make_installation(database={"url": f"sqlite:{small_disk}/credentials.db"})
    it.database = small_disk / "credentials.db"
    it.init()
    it.start()
    it.create_app()
    it.fill(200)
    ballast = small_disk / "ballast"
    with open(ballast, "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65536)
            file.flush()
    refused = None
    for n in range(200):
        reply = it.put("app", f"full{n}", "x" * 20000)
        if reply.status not in (200, 201):
            refused = reply
            break
    assert refused and refused.status == 503 and refused.code in ("database_unavailable",
                                                                  "audit_unavailable"), refused
    ballast.unlink()
    wait_for(lambda: it.put("app", "after", "y").status in (200, 201), "it writes again")
    assert it.password("app", principal_of(7)) == password_of(7)
    assert it.look_up("app", f"full{n}").status == 404
    it.check_open()
    assert it.sso("audit", "verify", check=0).json["ok"]
    it.stop()


def test_second_custodian_on_the_same_state_directory(running):
    second = subprocess.run([running.prefix / "bin" / "sso-custodian", "--config", running.config],
                            capture_output=True, timeout=60, check=False, text=True)
    assert second.returncode != 0 and second.stderr.strip()
    assert running.api("GET", "/v1/health").status == 200, "the first one still has its socket"


def test_socket_left_by_a_killed_custodian(running):
    running.kill()
    assert running.socket.exists()
    running.start()
    assert running.socket.stat().st_mode & 0o777 == 0o666


def test_metrics(running):
    running.put("app", "anna", "x", status=201)
    running.look_up("app", "anna")
    running.look_up("app", "nobody")
    reply = running.api("GET", "/metrics", status=200)
    text = reply.body.decode()
    assert reply.headers["Content-Type"].startswith("text/plain")
    names = set(re.findall(r"^([a-z_]+)(?:\{| )", text, re.M))
    assert all(name.startswith("sso_hsm_") for name in names), names
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_0-9]+(\{.*\})? [0-9.eE+-]+|.* (NaN|\+Inf)',
                                                     line), line
    assert re.search(r'operation="credential\.lookup"', text), text[:2000]
    assert "anna" not in text
    again = running.api("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert again.status == 200


def test_too_many_connections(blank):
    blank.write_config(limits={"max_connections": "8", "max_connections_per_peer": "8"})
    blank.init()
    blank.start()
    held = []
    try:
        for _ in range(30):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(10)
            held.append(peer)
            with contextlib.suppress(OSError):
                peer.connect(str(blank.socket))
    finally:
        for peer in held:
            peer.close()
    wait_for(lambda: ok(blank), "it serves again")


def ok(installation):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return installation.api("GET", "/v1/health").status == 200


def test_slow_request_is_cut_off(blank):
    """The time for a request to arrive is absolute: a byte now and then does not prolong it."""
    blank.write_config(limits={"request_timeout": "1s"})
    blank.init()
    blank.start()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer:
        peer.connect(str(blank.socket))
        peer.settimeout(0.2)

        def drip():
            try:
                peer.send(b"G")
                peer.recv(4096)
            except TimeoutError:
                return False
            except OSError:
                pass
            return True

        wait_for(drip, "the custodian hangs up")
    assert blank.api("GET", "/v1/health").status == 200


def test_rate_limit(blank):
    blank.write_config(limits={"requests_per_second": "20"})
    blank.init()
    blank.start()
    with contextlib.closing(blank.connection()) as connection:
        replies = [connection.call("GET", "/v1/apps") for _ in range(200)]
    refused = [reply for reply in replies if reply.status == 429]
    assert refused and refused[0].code == "too_many_requests"


# --- audit ---

def records(installation):
    return installation.api("GET", "/v1/audit?after=0&limit=1000", status=200).json["records"]


def test_every_operation_leaves_a_record(running):
    running.put("app", "anna", "x", status=201)
    running.look_up("app", "anna", status=200)
    running.look_up("app", "nobody", status=404)
    running.api("DELETE", credential_path("app", "anna"), status=204)
    running.sso("rotate", "--no-backup", check=0)
    running.sso("app", "disable", "app", check=0)
    seen = [(record["operation"], record["target"], record["outcome"]) for record in records(running)]
    for wanted in [("system.init", None, "ok"), ("app.create", "app", "ok"),
                   ("app.enable", "app", "ok"), ("credential.set", "app/anna", "ok"),
                   ("credential.lookup", "app/anna", "ok"),
                   ("credential.lookup", "app/nobody", "not_found"),
                   ("credential.delete", "app/anna", "ok"), ("rotation.start", None, "ok"),
                   ("rotation.switch", None, "ok"), ("rotation.finish", None, "ok"),
                   ("app.disable", "app", "ok")]:
        assert [each for each in seen if each[0] == wanted[0] and each[2] == wanted[2] and
                wanted[1] in (None, each[1])], (wanted, seen)
    numbers = [record["number"] for record in records(running)]
    assert numbers == list(range(1, len(numbers) + 1))
    written = [each for each in records(running) if each["operation"] == "credential.set"][0]
    assert written["row"] and written["row_version"] == 1 and len(written["request_id"]) == 32


def test_refusals_are_audited(running, people):
    stranger = people.user()
    reply = running.look_up("app", "anna", uid=stranger.pw_uid)
    assert reply.status == 403
    last = [each for each in records(running) if each["operation"] == "credential.lookup"][-1]
    assert last["outcome"] == "forbidden" and last["actor"] == stranger.pw_name
    assert last["request_id"] == reply.json["request_id"]


def verify(installation, code=3):
    return installation.sso("audit", "verify", check=code).json


@pytest.fixture
def audited(running):
    for n in range(30):
        running.put("app", principal_of(n), "x", status=201)
    assert verify(running, 0)["records"] >= 32
    return running


def finding(report, kind):
    return [each for each in report["findings"] if each["kind"] == kind]


@pytest.mark.parametrize("column, value", [
    ("actor", "'nobody'"), ("operation", "'credential.lookup'"), ("target", "'app/other'"),
    ("outcome", "'forbidden'"), ("time_ms", "time_ms + 1"), ("row_version", "9"),
    ("how", "'tls'"), ("request_id", "zeroblob(16)"), ("row_id", "zeroblob(16)"),
    ("hash", "zeroblob(32)")])
def test_a_changed_record_is_named(audited, column, value):
    with audited.sql() as sql:
        sql.execute(f"UPDATE audit SET {column} = {value} WHERE number = 10")
    report = verify(audited)
    assert not report["ok"] and [each["number"] for each in finding(report, "changed")] in (
        [10], [10, 11], [11]), report


def test_a_missing_record_is_named(audited):
    with audited.sql() as sql:
        sql.execute("DELETE FROM audit WHERE number IN (10, 11)")
    report = verify(audited)
    assert not report["ok"] and finding(report, "missing"), report
    assert finding(report, "missing")[0]["number"] in (10, 11, 12)


def test_reordered_records_are_named(audited):
    with audited.sql() as sql:
        for old, new in ((10, -1), (11, 10), (-1, 11)):
            sql.execute("UPDATE audit SET number = ? WHERE number = ?", [new, old])
    report = verify(audited)
    assert not report["ok"] and (finding(report, "reordered") or finding(report, "changed")), report
    assert report["findings"][0]["number"] in (10, 11)


def test_a_cut_tail_is_named(audited):
    """The node keeps its last number and hash outside the database."""
    audited.stop()
    with audited.sql() as sql:
        sql.execute("DELETE FROM audit WHERE number > 20")
    report = verify(audited)
    assert not report["ok"] and finding(report, "truncated"), report


def has_event(installation, name):
    events = installation.api("GET", "/v1/health").json["events"]
    return name in [event["name"] for event in events]


def test_a_cut_tail_stays_named(audited):
    """Whatever is written after the cut, by the service or by a direct command."""
    kept = (audited.directory / "audit-head").read_text()
    number = int(kept.split()[0])
    with audited.sql() as sql:
        sql.execute("DELETE FROM audit WHERE number > 20")
    assert audited.put("app", "anna", "x").code == "database_went_back"
    wait_for(lambda: has_event(audited, "audit_truncated"), "the event")
    assert finding(verify(audited), "truncated")
    for n in range(number):
        audited.look_up("app", principal_of(n))
    audited.sso("db", "check", "--open", check=0)
    assert finding(verify(audited), "changed")
    audited.stop()
    audited.start(wait="decrypt")
    assert audited.put("app", "anna", "y").code == "database_went_back"
    wait_for(lambda: has_event(audited, "audit_truncated"), "the event after a restart")
    assert finding(verify(audited), "changed")
    assert (audited.directory / "audit-head").read_text() == kept


def test_verify_needs_no_token_and_no_service(audited):
    audited.stop()
    (audited.token.directory / "tokens").rename(audited.token.directory / "away")
    assert verify(audited, 0)["ok"]


def test_export(audited):
    exported = audited.sso("audit", "export", check=0).lines
    assert [each["number"] for each in exported] == list(range(1, len(exported) + 1))
    assert json.dumps(exported[0])


# --- many starts ---

@pytest.mark.long
def test_many_starts_and_stops(initialised):
    for _ in range(5 if SANITIZED else 20):
        initialised.start()
        assert initialised.stop() == 0
    assert not initialised.processes_left()


def test_workers_run_as_the_tokens_user(people, make_installation):
    """Started as root: workers as [hsm] user, the rest as [system] user."""
    service, token_user = people.user(), people.user()
    it = make_installation()
    for path in [it.token.directory, *it.token.directory.rglob("*")]:
        os.chown(path, token_user.pw_uid, token_user.pw_gid)
    state = it.directory / "state"
    state.mkdir(mode=0o700)
    os.chown(state, service.pw_uid, service.pw_gid)
    run = it.directory / "run"
    run.mkdir(mode=0o755)
    os.chown(run, service.pw_uid, service.pw_gid)
    it.database, it.socket = state / "credentials.db", run / "custodian.sock"
    it.write_config(system={"user": service.pw_name}, hsm={"user": token_user.pw_name},
                    database={"url": f"sqlite:{it.database}"}, listen={"socket": it.socket})
    it.init()
    it.start()

    def ids(pid):
        status = Path(f"/proc/{pid}/status").read_text()
        return [set(map(int, re.search(rf"^{name}:\s+(.*)$", status, re.M).group(1).split()))
                for name in ("Uid", "Groups")]

    assert ids(it.custodian.pid)[0] == {service.pw_uid}
    assert 0 not in ids(it.custodian.pid)[1]
    pids = it.worker_pids()
    assert len(pids) == 2
    for pid in pids:
        assert ids(pid)[0] == {token_user.pw_uid} and 0 not in ids(pid)[1]
    assert it.database.stat().st_uid == service.pw_uid
    it.create_app()
    it.put("app", "anna", "x", status=201)
    assert it.password("app", "anna") == "x"


def test_not_root_and_not_the_systems_user(people, initialised):
    stranger = people.user()
    done = subprocess.run([initialised.prefix / "bin" / "sso-custodian", "--config",
                           initialised.config], user=stranger.pw_uid, group=stranger.pw_gid,
                          extra_groups=[], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4, done
