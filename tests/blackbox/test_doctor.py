"""sso-hsm doctor: what it finds, and that it leaves everything as it was."""

import os

import pytest

from faulty import FaultyToken
from installation import NssToken


def checks_of(installation, code):
    report = installation.sso("doctor", check=code).json
    for check in report["checks"]:
        assert check["result"] in ("PASS", "WARN", "FAIL", "SKIP") and check["detail"], check
        assert "\n" not in check["detail"] + check["remedy"]
        assert check["remedy"] or check["result"] in ("PASS", "SKIP"), check
    ids = [check["id"] for check in report["checks"]]
    assert len(ids) == len(set(ids)), ids
    return {check["id"]: check for check in report["checks"]}


def on_the_token(installation):
    """Every object as the token shows it, and the files that hold them."""
    folder = installation.token.directory / "tokens"
    return (installation.token.pkcs11_tool("-O"),
            sorted(path.name for path in folder.rglob("*.object")))


def test_it_checks_all_and_changes_nothing(initialised):
    guard = initialised.directory / "pin-guard"
    before = (on_the_token(initialised), sorted(os.listdir(guard)),
              initialised.database.read_bytes())
    checks = checks_of(initialised, 0)
    assert before == (on_the_token(initialised), sorted(os.listdir(guard)),
                      initialised.database.read_bytes())
    passed = ["module", "token", "pin", "token.found", "token.login", "token.sessions",
              "mechanism.aes-key-gen", "mechanism.aes-key-wrap", "release.read", "release.transport",
              "evidence.aes256-kw", "speed.aes256-kw", "mechanism.aes-gcm", "gcm.iv",
              "evidence.aes256-gcm", "speed.aes256-gcm", "suite.usable", "backup.wrapping-key",
              "mechanism.ecdsa-p256", "canary", "evidence.generation-1", "policy", "database",
              "database.mode", "database.folder", "config.mode", "clock.audit", "state_directory",
              "socket"]
    assert [name for name in passed if checks[name]["result"] != "PASS"] == [], checks
    for timed in ("clock", "token.search"):
        assert checks[timed]["result"] in ("PASS", "WARN"), checks[timed]
    assert "serial=" in checks["token.found"]["detail"]
    assert "caller" in checks["gcm.iv"]["detail"]


@pytest.mark.skipif(not NssToken.is_installed(), reason="NSS softoken is not installed")
def test_a_token_in_fips_mode_before_init(make_installation, tmp_path):
    checks = checks_of(make_installation(token=NssToken(tmp_path / "nss", fips=True)), 0)
    assert checks["release.read"]["result"] == "SKIP"
    assert "C_CreateObject" in checks["release.read"]["detail"]
    assert checks["release.transport"]["result"] == "PASS"
    assert checks["evidence.aes256-kw"]["result"] == "WARN"
    assert checks["database"]["result"] == "WARN" and "init" in checks["database"]["remedy"]


@pytest.mark.parametrize("control, wanted", [
    (["gcm-iv appended", "sessions 5", "refuse-non-sensitive",
      "C_GenerateKeyPair return CKR_FUNCTION_NOT_SUPPORTED"],
     {"gcm.iv": ("PASS", "16 bytes (appended)"),
      "token.sessions": ("PASS", "names a limit of 5; 4 more were opened at once, then CKR_SESSION_COUNT"),
      "release.read": ("SKIP", "CKR_ATTRIBUTE_VALUE_INVALID"),
      "mechanism.ecdsa-p256": ("WARN", "CKR_FUNCTION_NOT_SUPPORTED")}),
    (["gcm-iv zeros", "sessions 3", "hide-session-limit", "C_FindObjectsInit delay 60000"],
     {"gcm.iv": ("PASS", "12 bytes (parameter)"), "release.read": ("PASS", ""),
      "token.sessions": ("PASS", "names no limit; 2 more"),
      "token.search": ("WARN", "among 0 objects")}),
])
def test_what_differs_between_tokens(blank, control, wanted):
    FaultyToken(blank).control(*control)
    checks = checks_of(blank, 0)
    for name, (result, words) in wanted.items():
        assert checks[name]["result"] == result and words in checks[name]["detail"], checks[name]


def test_tokens_that_will_not_do(blank):
    """Exit 3, and the check that failed says what of."""
    token = FaultyToken(blank)
    for control, name, words in (
            (["C_GenerateKey return CKR_FUNCTION_NOT_SUPPORTED"], "mechanism.aes-key-gen",
             "C_GenerateKey says CKR_FUNCTION_NOT_SUPPORTED"),
            (["C_WrapKey return CKR_MECHANISM_INVALID", "C_EncryptInit return CKR_MECHANISM_INVALID"],
             "suite.usable", "0 of the suites"),
            (["gone"], "token", "no token")):
        token.control(*control)
        check = checks_of(blank, 3)[name]
        assert check["result"] == "FAIL" and words in check["detail"], check


def test_a_refused_pin_is_not_spent_again(blank):
    token = FaultyToken(blank)
    token.control("pin-tries 3")
    blank.token.write_pin("wrong-pin")
    for _ in range(3):
        checks = checks_of(blank, 3)
        assert checks["pin"]["result"] == "FAIL" and checks["token"]["result"] == "PASS", checks
    assert token.logins() == 1


def test_files_that_others_may_use_and_a_clock_that_was_put_back(initialised):
    with initialised.sql() as sql:
        sql.execute("UPDATE audit SET time_ms = time_ms + 7200000")
    initialised.database.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(initialised.config, -1, 65534)
    initialised.config.chmod(0o664)
    initialised.token.pin_file.chmod(0o644)
    checks = checks_of(initialised, 3)
    assert checks["database.mode"]["result"] == checks["pin"]["result"] == "FAIL"
    assert checks["clock.audit"]["result"] == "WARN"
    of_root = initialised.config.stat().st_gid == 0
    assert checks["config.mode"]["result"] == ("PASS" if of_root else "WARN")


def test_keys_that_the_database_does_not_know_are_named(initialised):
    def check():
        found, = [check for check in initialised.sso("doctor").json["checks"]
                  if check["id"] == "keys.unknown"]
        return found

    assert check()["result"] == "PASS"
    own, = [line.split(":", 1)[1].strip() for line in
            initialised.token.pkcs11_tool("-O", "--type", "secrkey").splitlines() if "label:" in line]
    initialised.token.make_key("ab" * 16, own[:-1] + "7")
    told = check()
    assert told["result"] == "WARN" and own[:-1] + "7" in told["detail"], told
    assert own not in told["detail"].split()
