"""init, and what bad input gets: a clear code, and nothing half done."""

import hashlib
import os
import sqlite3
import subprocess

import pytest

from installation import Token, wait_for


def test_init_makes_a_system_that_serves(initialised):
    initialised.start()
    status = initialised.sso("status", check=0).json
    assert status["system"]["name"] == "test" and len(status["system"]["id"]) == 32
    assert status["generation"]["number"] == 1 and status["generation"]["state"] == "active"
    assert status["health"]["encrypt"] and status["health"]["decrypt"]
    assert "backup_missing" in [event["name"] for event in status["health"]["events"]]
    assert initialised.database.stat().st_mode & 0o777 == 0o600


def test_second_init_is_refused_and_changes_nothing(initialised):
    before = initialised.sso("key", "show", "1", check=0).json
    again = initialised.sso("init", "--no-backup")
    assert again.code == 1 and again.problem["code"] == "already_exists"
    assert initialised.sso("key", "show", "1", check=0).json["secret_id"] == before["secret_id"]
    assert initialised.token.pkcs11_tool("-O", "--type", "secrkey").count("Secret Key Object") == 1


def test_shares_on_a_screen_want_a_terminal(blank):
    refused = blank.sso("init", "--shares", "2/3", "--backup", blank.directory / "backup", check=2)
    assert "no terminal" in refused.problem["detail"]
    assert not (blank.directory / "backup").exists()
    assert "Secret Key" not in blank.token.pkcs11_tool("-O")


def test_init_wants_to_be_told_about_the_backup(blank):
    refused = blank.sso("init")
    assert refused.code == 2 and "--no-backup" in refused.problem["detail"]


def test_gcm_suite(blank):
    blank.init("--suite", "aes256-gcm")
    assert blank.sso("key", "show", "1", check=0).json["suite"] == "aes256-gcm"
    blank.start()
    blank.create_app()
    blank.put("app", "anna", "geheim-ü", status=201)
    assert blank.password("app", "anna") == "geheim-ü"


def test_unknown_suite(blank):
    assert blank.sso("init", "--no-backup", "--suite", "rot13").code == 2


def assert_nothing_made(installation):
    assert "Secret Key Object" not in installation.token.pkcs11_tool("-O")
    if installation.database.exists():
        with installation.sql() as sql:
            tables = [row[0] for row in sql.execute("SELECT name FROM sqlite_master")]
            assert "system" not in tables or not sql.execute("SELECT * FROM system").fetchall()


def pin_tries(installation):
    """What the PIN guard remembers is shared by daemon and tool."""
    return sorted((installation.directory / "pin-guard").glob("*"))


def test_wrong_pin_is_tried_once_across_restarts(blank):
    blank.token.write_pin("wrong-pin")
    first = blank.sso("init", "--no-backup")
    assert first.code == 1 and first.problem["code"] == "pin_refused"
    assert pin_tries(blank)
    # The right PIN under the old stamp would now be accepted by the token: that it is not even
    # tried shows that no login happens. The file keeps inode, size and times.
    second = blank.sso("init", "--no-backup")
    assert second.code == 1 and second.problem["code"] == "pin_refused"
    assert "pin reset" in second.problem["detail"]
    assert_nothing_made(blank)
    blank.token.write_pin(blank.token.pin)
    blank.init()


def test_refused_pin_is_not_tried_again_by_the_daemon(initialised):
    initialised.token.write_pin("wrong-pin")
    for _ in range(2):
        initialised.start(wait=None)
        reply = initialised.api("POST", "/v1/lookup", {"app": "a", "principal": "b"})
        health = initialised.sso("status", check=0).json["health"]
        assert "pin_refused" in [event["name"] for event in health["events"]]
        assert reply.status == 503 and reply.code == "pin_refused"
        assert initialised.stop() == 0


def test_pin_reset_allows_one_more_try(initialised):
    right = initialised.token.pin
    initialised.token.pin_file.write_text("X" + right[1:])
    initialised.start(wait=None)
    assert initialised.look_up("a", "b").code == "pin_refused"
    # The right PIN, but inode, size and times are as before: that it is still refused shows that no
    # login was tried, and only the reset tells that one is worth it.
    status = os.stat(initialised.token.pin_file)
    initialised.token.pin_file.write_text(right)
    os.utime(initialised.token.pin_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    initialised.stop()
    initialised.start(wait=None)
    assert initialised.look_up("a", "b").code == "pin_refused"
    assert initialised.sso("pin", "reset", check=0).json == {"reset": True, "accepted": True}
    wait_for(lambda: initialised.api("GET", "/v1/health").json["encrypt"], "the PIN is accepted")


def test_pin_reset_says_that_the_daemon_was_refused_again(initialised):
    initialised.token.write_pin("wrong-pin")
    initialised.start(wait=None)
    assert initialised.look_up("a", "b").code == "pin_refused"
    done = initialised.sso("pin", "reset", check=1)
    assert done.json == {"reset": True, "accepted": False}
    assert done.problem["code"] == "pin_refused"


def stamps(installation):
    return [(path.stat().st_mtime_ns, path.read_text())
            for path in pin_tries(installation) if path.suffix == ".stamp"]


def test_pin_reset_without_a_daemon_tries_once_and_keeps_the_refusal(initialised):
    right = initialised.token.pin
    initialised.token.pin_file.write_text("X" + right[1:])
    # Not tried before, and refused before: one try each, and the stamp stands after it.
    for _ in range(4):
        done = initialised.sso("pin", "reset", check=1)
        assert done.json == {"reset": True, "accepted": False}
        assert done.problem["code"] == "pin_refused"
        assert "CKR_PIN_INCORRECT" in done.problem["detail"]
        after = stamps(initialised)
        assert len(after) == 1 and "state refused" in after[0][1]
        shown = initialised.sso("key", "show", check=1)
        assert "before" in shown.problem["detail"] and stamps(initialised) == after
    status = os.stat(initialised.token.pin_file)
    initialised.token.pin_file.write_text(right)
    os.utime(initialised.token.pin_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    initialised.sso("key", "show", check=1)
    assert initialised.sso("pin", "reset", check=0).json == {"reset": True, "accepted": True}
    assert stamps(initialised) == []
    initialised.sso("key", "show", check=0)


def doctors_check(installation, name):
    found = [check for check in installation.sso("doctor").json["checks"] if check["id"] == name]
    return found[0] if found else None


def test_doctor_tells_faults_of_the_pin_source_from_those_of_the_module(initialised):
    initialised.token.pin_file.chmod(0o644)
    pin = doctors_check(initialised, "pin")
    assert pin["result"] == "FAIL" and "mode 0400" in pin["detail"]
    assert "0400" in pin["remedy"] and "[hsm] user" in pin["remedy"]
    assert doctors_check(initialised, "module")["result"] == "PASS"
    initialised.token.pin_file.unlink()
    assert doctors_check(initialised, "pin")["result"] == "FAIL"
    assert doctors_check(initialised, "module")["result"] == "PASS"


def test_doctor_tells_faults_of_the_state_directory_from_those_of_the_module(initialised):
    initialised.write_config(system={"state_directory": initialised.directory / "none" / "such"})
    assert doctors_check(initialised, "state_directory")["result"] == "FAIL"
    assert doctors_check(initialised, "module")["result"] == "SKIP"
    assert "state_directory" in doctors_check(initialised, "pin_guard")["remedy"]


def test_doctor_names_the_events_of_a_custodian_that_answers(initialised):
    initialised.token.write_pin("wrong-pin")
    initialised.start(wait=None)
    assert initialised.look_up("a", "b").code == "pin_refused"
    told = doctors_check(initialised, "custodian")
    assert told["result"] == "WARN" and "answers" in told["detail"]
    assert "pin_refused" in told["detail"] and "start" not in told["remedy"]


def test_pin_file_open_to_others_is_refused(blank):
    blank.token.pin_file.chmod(0o644)
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 1 and refused.problem["code"] == "config_error"
    assert str(blank.token.pin_file) in refused.problem["detail"]
    assert_nothing_made(blank)


@pytest.mark.parametrize("uri", [
    "pkcs11:token=test?pin-value=1234-test-pin",
    "pkcs11:token=test?pin-value=x&pin-source=file:/etc/hostname",
    "pkcs11:slot-id=0",
    "token=test",
    "pkcs11:token=%zz",
])
def test_bad_token_uri(blank, uri):
    blank.write_config(hsm={"token": uri})
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 1 and refused.problem["code"] == "config_error", refused
    assert "1234-test-pin" not in refused.out + refused.err
    assert_nothing_made(blank)


def test_no_such_token_names_what_is_there(blank):
    blank.write_config(hsm={"token": f"pkcs11:token=other?pin-source=file:{blank.token.pin_file}"})
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 1 and refused.problem["code"] == "token_not_found"
    assert "test" in refused.problem["detail"], "names the token that was found"
    assert_nothing_made(blank)


def test_two_tokens_that_fit_are_refused_with_both(blank):
    blank.token.add("test")
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 1 and refused.problem["code"] == "token_ambiguous"
    assert refused.problem["detail"].count("serial=") >= 2 or "2" in refused.problem["detail"]
    assert_nothing_made(blank)


@pytest.mark.parametrize("module", ["/nowhere/module.so", "/etc/hostname",
                                    "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0"])
def test_module_that_does_not_load(blank, module):
    blank.write_config(hsm={"module": module})
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 1 and refused.problem["code"] == "config_error", refused
    assert module in refused.problem["detail"]


def test_unknown_key_is_named_with_file_and_line(blank):
    lines = blank.config.read_text().splitlines()
    blank.config.write_text("\n".join([*lines, "[cache]", "leese = 5m"]) + "\n")
    for command in (["init", "--no-backup"], ["status"], ["doctor"]):
        refused = blank.sso(*command)
        assert refused.code == 1 and refused.problem["code"] == "config_error"
        assert f"{blank.config}:{len(lines) + 2}" in refused.problem["detail"]
        assert "leese" in refused.problem["detail"]


@pytest.mark.parametrize("section, text", [
    ("nonsense", "a = b"), ("cache", "lease = soon"), ("cache", "lease"),
    ("limits", "max_connections = -1"), ("limits", "max_connections = 12x"),
    ("hsm", "weak_token = maybe"), ("hsm", "workers = " + "1" * 300),
    ("limits", "max_body = 1000000000000T"), ("cluster", "failover = sometimes"),
])
def test_bad_value_is_named_with_line(blank, section, text):
    lines = blank.config.read_text().splitlines()
    blank.config.write_text("\n".join([*lines, f"[{section}]", text]) + "\n")
    refused = blank.sso("status")
    assert refused.code == 1 and refused.problem["code"] == "config_error", refused
    assert f":{len(lines) + 2}" in refused.problem["detail"] or (
        section == "nonsense" and f":{len(lines) + 1}" in refused.problem["detail"])


@pytest.mark.parametrize("section, text", [
    ("cache", "prefetch = crm"),
])
def test_what_comes_later_is_refused_by_name(blank, section, text):
    blank.config.write_text(blank.config.read_text() + f"[{section}]\n{text}\n")
    for command in (["status"], ["init", "--no-backup"]):
        refused = blank.sso(*command)
        assert refused.code == 1 and refused.problem["code"] == "config_error", refused
        assert text.split()[0] in refused.problem["detail"]
        assert "not available" in refused.problem["detail"]


def test_no_configuration_file(blank):
    blank.config.unlink()
    refused = blank.sso("status")
    assert refused.code == 1 and refused.problem["code"] == "config_error"
    assert str(blank.config) in refused.problem["detail"]


def test_database_of_another_program(blank):
    with sqlite3.connect(blank.database) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
        other.execute("INSERT INTO recipes VALUES ('soup')")
    digest = hashlib.sha256(blank.database.read_bytes()).digest()
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 1 and refused.problem["code"] == "database_of_other_system", refused
    assert hashlib.sha256(blank.database.read_bytes()).digest() == digest
    assert "Secret Key Object" not in blank.token.pkcs11_tool("-O")


def test_database_that_is_no_database(blank):
    blank.database.write_bytes(b"this is a text file\n" * 1000)
    refused = blank.sso("init", "--no-backup")
    assert refused.code in (1, 5), refused
    assert blank.database.read_bytes().startswith(b"this is a text file")
    assert "Secret Key Object" not in blank.token.pkcs11_tool("-O")


def test_database_of_another_system_on_this_token(initialised, make_installation):
    """The database knows a master secret that this token does not hold."""
    other = make_installation()
    other.init()
    other.write_config(database={"url": f"sqlite:{initialised.database}"})
    other.start(wait=None)
    assert other.look_up("a", "b").code == "no_master_secret"
    status = other.sso("status", check=0).json
    assert not status["health"]["encrypt"] and not status["health"]["decrypt"]
    assert "no_master_secret" in [event["name"] for event in status["health"]["events"]]


def test_newer_schema_is_refused(initialised):
    with initialised.sql() as sql:
        columns = [row["name"] for row in sql.execute("PRAGMA table_info(schema_migrations)")]
        last = dict(sql.execute("SELECT * FROM schema_migrations ORDER BY 1 DESC").fetchone())
        last[columns[0]] = 9999
        sql.execute(f"INSERT INTO schema_migrations VALUES ({','.join('?' * len(columns))})",
                    [last[column] for column in columns])
    refused = initialised.sso("db", "check")
    assert refused.code == 1 and refused.problem["code"] == "schema_newer"


def test_database_that_cannot_be_written(blank):
    blank.write_config(database={"url": f"sqlite:{blank.directory}/nowhere/credentials.db"},
                       system={"state_directory": blank.directory})
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 5 and refused.problem["code"] == "database_unavailable"
    assert "Secret Key Object" not in blank.token.pkcs11_tool("-O")


def test_database_that_cannot_be_written_by_its_user(people, blank):
    """Root may write anywhere; an ordinary user finds the folder closed."""
    user = people.user()
    shut = blank.directory / "shut"
    shut.mkdir(mode=0o755)
    state = blank.directory / "state"
    state.mkdir()
    os.chown(state, user.pw_uid, user.pw_gid)
    for path in [blank.token.directory, *blank.token.directory.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid)
    blank.write_config(system={"user": user.pw_name, "state_directory": state},
                       database={"url": f"sqlite:{shut}/credentials.db"})
    refused = blank.sso("init", "--no-backup")
    assert refused.code == 5 and refused.problem["code"] == "database_unavailable", refused
    assert "Secret Key Object" not in blank.token.pkcs11_tool("-O")


def test_other_user_may_not_run_direct_commands(people, initialised):
    stranger = people.user()
    refused = initialised.sso("key", "show", user=stranger)
    assert refused.code == 4 and refused.problem["code"] == "forbidden", refused


def test_module_path_in_the_databases_uri_is_never_obeyed(initialised):
    """A token is named in the database by four attributes; nothing there chooses code to load."""
    loaded = initialised.directory / "loaded"
    evil = initialised.directory / "evil.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", evil], check=True, text=True,
                   input=f'#include <stdio.h>\n__attribute__((constructor)) static void run(void)'
                         f' {{ fclose(fopen("{loaded}", "w")); }}\n')
    with initialised.sql() as sql:
        columns = [row["name"] for row in sql.execute("PRAGMA table_info(generation_tokens)")]
        name = "token" if "token" in columns else columns[1]
        sql.execute(f"UPDATE generation_tokens SET {name} = {name} || ?",
                    [f"?module-path={evil}&pin-value=1234"])
    initialised.start(wait=None)
    reply = initialised.look_up("a", "b")
    assert reply.status >= 500 and reply.code in ("policy_tampered", "no_master_secret"), reply
    assert initialised.sso("key", "show").code != 0
    assert not loaded.exists()


def test_doctor_on_a_sound_installation(initialised):
    report = initialised.sso("doctor", check=0).json
    results = {check["id"]: check["result"] for check in report["checks"]}
    assert report["result"] in ("PASS", "WARN") and "FAIL" not in results.values(), results
    assert results["mechanism.aes-key-wrap"] == "PASS"
    for check in report["checks"]:
        assert set(check) >= {"id", "result", "detail", "remedy"}


def test_doctor_names_a_missing_token(blank):
    blank.write_config(hsm={"token": f"pkcs11:token=other?pin-source=file:{blank.token.pin_file}"})
    report = blank.sso("doctor", check=3).json
    assert report["result"] == "FAIL"
    assert any("other" in check["detail"] + check["remedy"] for check in report["checks"]
               if check["result"] == "FAIL")


def test_two_sections_for_two_tokens(blank, tmp_path):
    """The second token comes with [hsm NAME]; init uses the first."""
    second = Token(tmp_path / "second", label="second")
    blank.write_config(**{"hsm second": {
        **{key: value for key, value in blank.settings["hsm"].items()},
        "environment": f"SOFTHSM2_CONF={second.configuration}", "token": second.uri}})
    blank.init()
    assert "token=test" in blank.sso("key", "show", "1", check=0).json["tokens"][0]
    blank.start()
    made = blank.sso("key", "generate", "--no-backup", "--token", "second", check=0).json
    assert "token=second" in made["tokens"][0]
    blank.create_app()
    blank.put("app", "anna", "moves to another vendor", status=201)
    blank.sso("rotate", "--generation", made["number"], check=0)
    assert blank.look_up("app", "anna").json["generation"] == made["number"]
    assert blank.password("app", "anna") == "moves to another vendor"
    blank.check_open()
