"""The end of a generation's life: retired, confirmed, destroyed, and proven not to be needed."""
import hashlib
import json
import os
import struct
import subprocess

from pathlib import Path

import pytest

from backups import Backup
from installation import NssToken, Result, Token, hsm_section, principal_of, wait_for

SENTENCE = "older backups become unreadable\n"


def state(installation, number=1):
    with installation.sql() as sql:
        names = [None, "pending", "active", "retiring", "retired", "destroying", "destroyed"]
        return names[sql.execute("SELECT state FROM generations WHERE number = ?",
                                 [number]).fetchone()[0]]


def refused(installation, code, *arguments, data=None):
    before = state(installation)
    done = installation.sso("key", *arguments, data=data, check=1)
    assert done.problem["code"] == code, done
    assert state(installation) == before
    return done.problem["detail"]


def keys_in_token(installation):
    return installation.token.pkcs11_tool("-O", "--type", "secrkey").count("Secret Key Object")


def rotate(installation):
    installation.sso("rotate", "--no-backup", check=0)
    assert state(installation) == "retired"


@pytest.fixture
def retired(running):
    for n in range(5):
        running.put("app", principal_of(n), f"secret {n}", status=201)
    rotate(running)
    return running


@pytest.fixture
def ready(retired):
    retired.sso("db", "check", "--open", check=0)
    return retired


def destroy(installation, *arguments, data=SENTENCE, **options):
    return installation.sso("key", "destroy", 1, "--for-ever", *arguments, data=data, **options)


def all_open(installation):
    installation.check_open()
    assert installation.password("app", principal_of(3)) == "secret 3"


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">I", len(data)) + data


def signature_fits(installation, result):
    """With openssl(1), from what the documents say and nothing else."""
    with installation.sql() as sql:
        system = sql.execute("SELECT id FROM system").fetchone()["id"]
    digest = hashlib.sha256(text("sso-hsm signed text v1") + system + text("statement") +
                            text(result["statement"])).digest()
    raw = bytes.fromhex(result["signature"])

    def integer(data):
        data = data.lstrip(b"\0")
        data = (b"\0" if data[0] & 0x80 else b"") + data
        return b"\x02" + bytes([len(data)]) + data

    body = integer(raw[:32]) + integer(raw[32:])
    files = {}
    for name, data in (("digest", digest), ("signature", b"\x30" + bytes([len(body)]) + body),
                       ("key", result["public_key"].encode())):
        files[name] = installation.directory / f"check-{name}"
        files[name].write_bytes(data)
    return subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", files["key"], "-in",
                           files["digest"], "-sigfile", files["signature"]],
                          capture_output=True).returncode == 0


def test_only_a_retired_generation(running):
    running.sso("key", "generate", "--no-backup", check=0)
    assert "active" in refused(running, "in_use", "destroy", 1)
    refused(running, "in_use", "destroy", 2)
    refused(running, "not_found", "destroy", 9)
    refused(running, "in_use", "retire", 1)
    assert state(running, 2) == "pending"
    # One that was made and is not wanted.
    assert running.sso("key", "retire", 2, check=0).json["state"] == "retired"
    for wrong in ({}, {"state": "active"}, {"state": "retired", "compromised": True}):
        running.api("PATCH", "/v1/generations/1", wrong, status=400)
    running.sso("key", "destroy", check=2)
    running.sso("key", "destroy", 1, "--grace", "soon", check=2)
    assert keys_in_token(running) == 2


def test_what_stands_against_it(retired):
    assert "db check --open" in refused(retired, "in_use", "destroy", 1)
    retired.sso("db", "check", "--open", check=0)
    assert "drill" in refused(retired, "in_use", "destroy", 1)
    assert "retired_keep" in refused(retired, "confirmation_needed", "destroy", 1, "--for-ever")
    refused(retired, "confirmation_needed", "destroy", 1, "--for-ever", data="yes\n")
    with retired.sql() as sql:
        sql.execute("UPDATE credentials SET generation = 1 WHERE principal = ?", [principal_of(0)])
    assert "1 rows" in refused(retired, "in_use", "destroy", 1, "--for-ever", data=SENTENCE)
    with retired.sql() as sql:
        sql.execute("UPDATE credentials SET generation = 2")
        sql.execute("UPDATE sealed_keys SET generation = 1 WHERE purpose = 'policy'")
    done = retired.sso("key", "destroy", 1, "--for-ever", data=SENTENCE)
    assert done.code == 1 and state(retired) == "retired"
    with retired.sql() as sql:
        sql.execute("UPDATE sealed_keys SET generation = 2")
        sql.execute("INSERT INTO quarantine (row_id, generation, code, reason, tries, since_ms,"
                    " seen, retry) SELECT row_id, 1, 'row_corrupt', '', 1, 1, zeroblob(32), 0 FROM credentials LIMIT 1")
    assert "quarantine" in refused(retired, "in_use", "destroy", 1, "--for-ever", data=SENTENCE)
    assert keys_in_token(retired) == 2


def test_two_steps_and_a_signed_statement(ready):
    first = destroy(ready, "--grace", "7d", check=0).json
    assert first["state"] == "destroying" == state(ready) and first["until"]
    assert "0 rows, 0 sealed keys, 0 rows in quarantine" in first["statement"]
    assert signature_fits(ready, first)
    assert not signature_fits(ready, {**first, "statement": first["statement"] + "."})
    assert "may be destroyed from" in refused(ready, "in_use", "destroy", 1, "--for-ever")
    # Taken back while the grace lasts, then once more.
    assert ready.sso("key", "retire", 1, check=0).json["state"] == "retired"
    assert destroy(ready, "--grace", "1ms", check=0).json["state"] == "destroying"
    assert keys_in_token(ready) == 2
    last = destroy(ready, check=0).json
    assert last["state"] == "destroyed" == state(ready) and last["until"] is None
    assert signature_fits(ready, last) and keys_in_token(ready) == 1
    kept = (ready.directory / "statements" / "generation-1-destroyed").read_text()
    assert kept.startswith(last["statement"]) and last["signature"] in kept
    assert destroy(ready, check=0).json["state"] == "destroyed"
    all_open(ready)
    ready.restart()
    all_open(ready)
    report = ready.sso("audit", "verify", check=0).json
    assert report["ok"]
    operations = [each["operation"] for each in ready.sso("audit", "export", check=0).lines]
    for name in ("generation.retire", "generation.destroying", "generation.destroy",
                 "generation.destroyed"):
        assert name in operations


def test_kept_long_enough_nothing_is_typed(make_installation):
    it = make_installation(keys={"retired_keep": "1ms"})
    it.init()
    it.start()
    it.create_app()
    rotate(it)
    it.sso("db", "check", "--open", check=0)
    assert destroy(it, data=None, check=0).json["state"] == "destroying"


def test_a_changed_row_of_a_destruction_is_refused(ready):
    destroy(ready, check=0)
    with ready.sql() as sql:
        sql.execute("UPDATE destructions SET grace_ms = 0")
    refused(ready, "policy_tampered", "destroy", 1, "--for-ever")
    with ready.sql() as sql:
        sql.execute("DELETE FROM destructions")
    assert "grace" in refused(ready, "policy_tampered", "destroy", 1, "--for-ever")
    assert keys_in_token(ready) == 2


def as_person(installation, person, *arguments, data=SENTENCE, environment=None):
    """The command as root, where the person at the console is another."""
    done = subprocess.run(installation.command(*arguments), capture_output=True, cwd="/",
                          input=data.encode(), timeout=600,
                          env={**os.environ, **(environment or {}),
                               "SUDO_UID": str(person.pw_uid)})
    return Result(done)


needs_console = pytest.mark.skipif(
    os.path.exists("/proc/self/loginuid") and
    open("/proc/self/loginuid").read().strip() not in ("4294967295", "-1"),
    reason="the login uid says who is at the console")


@needs_console
def test_dual_control(make_installation, people):
    admins = people.group("admins")
    anna, bert = people.user(admins), people.user(admins)
    it = make_installation(keys={"dual_control": "yes", "retired_keep": "1ms"},
                           roles={"sso_admins": f"{admins},root"})
    it.init()
    it.start()
    rotate(it)
    it.sso("db", "check", "--open", check=0)
    confirm = "/v1/generations/1:confirm"
    for verb in (":confirm", ":anything", ":"):
        assert it.api("PATCH", f"/v1/generations/1{verb}", {"state": "retired"}).code == "not_found"
    assert it.api("POST", confirm, uid=bert.pw_uid).code == "not_found"
    asked = as_person(it, anna, "key", "destroy", "1", "--for-ever", "--grace", "1ms")
    assert asked.code == 1 and asked.problem["code"] == "confirmation_needed", asked
    assert state(it) == "retired"
    # Not by the same person, and not without a confirmation.
    assert it.api("POST", confirm, uid=anna.pw_uid).code == "confirmation_needed"
    again = as_person(it, anna, "key", "destroy", "1", "--for-ever", "--grace", "1ms")
    assert again.problem["code"] == "confirmation_needed" and state(it) == "retired"
    it.api("POST", confirm, uid=bert.pw_uid, status=200)
    assert it.api("POST", confirm, uid=bert.pw_uid).code == "not_found"
    assert it.api("POST", "/v1/generations/1", uid=bert.pw_uid).status == 404
    first = as_person(it, anna, "key", "destroy", "1", "--for-ever", "--grace", "1ms")
    assert first.code == 0 and first.json["state"] == "destroying" == state(it), first
    assert as_person(it, bert, "key", "destroy", "1").json["state"] == "destroyed" == state(it)
    with it.sql() as sql:
        row = sql.execute("SELECT * FROM destructions").fetchone()
    assert row["asked_by"] == anna.pw_name and row["confirmed_by"] == bert.pw_name


@needs_console
def test_a_confirmation_is_good_for_ten_minutes(make_installation, people, tmp_path):
    """The clock of the command that asks is what is shifted; nobody waits."""
    admins = people.group("admins")
    anna, bert = people.user(admins), people.user(admins)
    it = make_installation(keys={"dual_control": "yes", "retired_keep": "1ms"},
                           roles={"sso_admins": f"{admins},root"})
    it.init()
    it.start()
    rotate(it)
    it.sso("db", "check", "--open", check=0)
    shift = tmp_path / "clock_shift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shift,
                    Path(__file__).with_name("clock_shift.c"), "-ldl"], check=True)

    def ask(minutes):
        options = ":".join(each for each in (os.environ.get("ASAN_OPTIONS"),
                                             "verify_asan_link_order=0") if each)
        return as_person(it, anna, "key", "destroy", "1", "--for-ever", "--grace", "1ms",
                         environment={"LD_PRELOAD": str(shift), "ASAN_OPTIONS": options,
                                      "CLOCK_SHIFT_SECONDS": str(60 * minutes)})

    confirm = "/v1/generations/1:confirm"
    # Asked for eleven minutes ago: too late to confirm.
    assert ask(-11).problem["code"] == "confirmation_needed"
    assert it.api("POST", confirm, uid=bert.pw_uid).code == "not_found"
    # Confirmed in time, and begun too late.
    assert ask(0).problem["code"] == "confirmation_needed"
    it.api("POST", confirm, uid=bert.pw_uid, status=200)
    assert ask(11).problem["code"] == "confirmation_needed" and state(it) == "retired"
    # The last wish stands for itself: it is of a clock that is ahead, and nobody confirmed it.
    assert ask(0).problem["code"] == "confirmation_needed"
    it.api("POST", confirm, uid=bert.pw_uid, status=200)
    assert ask(9).json["state"] == "destroying" == state(it)


def test_the_service_lets_go_of_what_was_destroyed(make_installation):
    """Sessions may work with copies of a key: no worker that had it open goes on."""
    it = make_installation(keys={"retired_keep": "1ms"}, cluster={"poll_interval": "1s"})
    it.init()
    it.start()
    it.create_app()
    it.put("app", principal_of(3), "secret 3", status=201)
    rotate(it)
    it.sso("db", "check", "--open", check=0)
    destroy(it, "--grace", "1ms", data=None, check=0)
    before = set(it.worker_pids())
    assert destroy(it, data=None, check=0).json["state"] == "destroyed"
    wait_for(lambda: it.worker_pids() and not before & set(it.worker_pids()), "other workers")
    all_open(it)


@pytest.fixture
def in_two_tokens(make_installation):
    """Generation 1, retired, in the tokens of two sections; generation 2 in the first."""
    backup = Backup(installation=make_installation(keys={"retired_keep": "1ms"}))
    it = backup.installation
    it.second = Token(it.directory / "second", label="second")
    it.write_config(**{"hsm second": hsm_section(it.second, workers="1")})
    backup.restore(1, 2, options=("--token", "second"), check=0)
    it.start()
    it.create_app()
    it.put("app", principal_of(3), "secret 3", status=201)
    rotate(it)
    it.sso("db", "check", "--open", check=0)
    destroy(it, "--grace", "1ms", data=None, check=0)
    return it


def row_of(it, table):
    with it.sql() as sql:
        key = "number" if table == "generations" else "generation"
        return dict(sql.execute(f"SELECT * FROM {table} WHERE {key} = 1").fetchone())


def replay(it, table, row):
    with it.sql() as sql:
        names = ",".join(row)
        sql.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES "
                    f"({','.join('?' * len(row))})", list(row.values()))


@pytest.mark.parametrize("lost", [False, True])
def test_in_every_token_and_no_way_back_between(in_two_tokens, lost):
    it = in_two_tokens
    section = it.settings.pop("hsm second")
    it.write_config()
    older = {table: row_of(it, table) for table in ("destructions", "generations")}
    done = destroy(it, data=None, check=5)
    assert done.problem["code"] == "hsm_unavailable" and "token=second" in done.problem["detail"]
    assert state(it) == "destroying" and keys_in_token(it) == 1
    # The key in the first token is gone, whatever an older row says.
    assert "no way back" in refused(it, "in_use", "retire", 1)
    replay(it, "destructions", older["destructions"])
    assert "no way back" in refused(it, "in_use", "retire", 1)
    newer = row_of(it, "generations")
    replay(it, "generations", older["generations"])
    assert it.sso("key", "retire", 1, check=5).problem["code"] == "database_went_back"
    replay(it, "generations", newer)
    if lost:
        done = destroy(it, "--token-lost", data=None, check=0)
        assert "written off" in done.err
    else:
        it.write_config(**{"hsm second": section})
        done = destroy(it, data=None, check=0)
        assert "Secret Key" not in it.second.pkcs11_tool("-O")
    assert done.json["state"] == "destroyed" == state(it)
    operations = [each["operation"] for each in it.sso("audit", "export", check=0).lines]
    assert operations.count("generation.destroy-object") == 2 - lost
    assert ("generation.token-lost" in operations) == lost
    wait_for(lambda: it.put("app", principal_of(4), "x").status == 201, "writes go on")
    all_open(it)


@pytest.mark.skipif(not NssToken.is_installed(), reason="NSS softoken is not installed")
def test_another_token_that_looks_the_same(make_installation, tmp_path):
    """All NSS tokens of one label show the same identity."""
    nss = NssToken(tmp_path / "a")
    it = make_installation(token=nss, keys={"retired_keep": "1ms"})
    second = Token(it.directory / "second", label="second")
    it.write_config(**{"hsm second": hsm_section(second, workers="1")})
    it.init()
    it.start()
    it.sso("rotate", "--no-backup", "--token", "second", check=0)
    it.sso("db", "check", "--open", check=0)
    destroy(it, "--grace", "1ms", data=None, check=0)
    right = dict(it.settings["hsm"])
    it.write_config(hsm=hsm_section(NssToken(tmp_path / "b")))
    done = destroy(it, data=None, check=5)
    assert done.problem["code"] == "hsm_unavailable" and state(it) == "destroying"
    it.write_config(hsm=right)
    assert destroy(it, data=None, check=0).json["state"] == "destroyed"
    assert it.sso("audit", "verify", check=0).json["ok"]


POINTS = ["destroy.first", "destroy.destroying", "destroy.counted", "destroy.object",
          "destroy.token", "store.commit"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_step_it_goes_on(fault_installation, point):
    it = fault_installation
    it.write_config(keys={"retired_keep": "1ms"})
    it.init()
    it.start()
    it.create_app()
    it.put("app", principal_of(3), "secret 3", status=201)
    rotate(it)
    it.sso("db", "check", "--open", check=0)
    killed = False
    for _ in range(8):
        number = 2 if point == "store.commit" and state(it) == "destroying" else 1
        done = subprocess.run(it.command("key", "destroy", "1", "--for-ever", "--grace", "1ms"),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=600, cwd="/",
                              env={**os.environ,
                                   **({} if killed else {"SSO_HSM_FAULT": f"{point}:kill:{number}"})})
        killed = killed or done.returncode == -9
        assert done.returncode in (0, -9), done
        it.sso("doctor", check=0)
        if state(it) == "destroyed":
            break
    assert killed and state(it) == "destroyed" and keys_in_token(it) == 1
    all_open(it)
    assert it.sso("audit", "verify", check=0).json["ok"]
    assert json.loads(it.sso("key", "destroy", "1", check=0).out)["state"] == "destroyed"
