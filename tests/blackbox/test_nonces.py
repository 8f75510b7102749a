"""aes256-gcm: wraps of a generation are counted, warned of at 2^31 and refused at 2^32. Nobody waits
for four thousand million wraps, so the count is put there in the database: it stands outside the
policy tag, and only ever rises."""

import json

import pytest

from backups import Backup
from faulty import FaultyToken
from installation import wait_for

WARNED, LIMIT, BLOCK = 1 << 31, 1 << 32, 16384


@pytest.fixture
def gcm(blank):
    blank.init("--suite", "aes256-gcm")
    blank.start()
    blank.create_app()
    blank.put("app", "first", "pw-first", status=201)
    return blank


def set_wraps(installation, wraps):
    """While nobody has a block in hand."""
    installation.stop()
    with installation.sql() as sql:
        sql.execute("UPDATE generations SET wraps = ? WHERE number = 1", [wraps])


def event(installation, name):
    events = installation.api("GET", "/v1/health").json["events"]
    return next((event for event in events if event["name"] == name), None)


def wraps(installation, number=1):
    with installation.sql() as sql:
        return sql.execute("SELECT wraps FROM generations WHERE number = ?", [number]).fetchone()[0]


def test_blocks_are_reserved_before_they_are_used(gcm):
    """A crash over-counts: what was reserved is not given back."""
    reserved = wraps(gcm)
    assert reserved >= BLOCK
    gcm.kill()
    gcm.start()
    gcm.put("app", "second", "pw", status=201)
    assert wraps(gcm) >= reserved + BLOCK


def test_warning_at_half(gcm):
    assert event(gcm, "wraps_high") is None
    set_wraps(gcm, WARNED - BLOCK - 1)
    gcm.start()
    gcm.put("app", "second", "pw", status=201)
    assert event(gcm, "wraps_high") is None and wraps(gcm) < WARNED
    set_wraps(gcm, WARNED)
    gcm.start()
    warned = wait_for(lambda: event(gcm, "wraps_high"), "the event wraps_high")
    assert warned["severity"] == "warning", warned
    gcm.put("app", "third", "pw", status=201)  # it is a warning


def test_refusal_at_the_limit_and_the_way_out(gcm):
    made = gcm.sso("key", "generate", "--no-backup", check=0).json
    set_wraps(gcm, LIMIT - 3)
    gcm.start(wait="decrypt")
    # Three are left, for writes and for the daemon's own test of encryption: none is wrapped beyond.
    def refused():
        reply = gcm.put("app", "other", "pw")
        assert reply.status in (200, 201, 409), reply
        return reply if reply.status == 409 else None
    reply = wait_for(refused, "the limit of wraps")
    assert reply.code == "wraps_exhausted", reply
    assert wraps(gcm) == LIMIT
    assert gcm.password("app", "first") == "pw-first"  # reading needs no IV
    assert wait_for(lambda: gcm.api("GET", "/v1/health").json["encrypt"] is False,
                    "encryption is shown as impossible")
    lines = "".join(json.dumps({"app": "app", "principal": f"i{n}", "external_user": "e",
                                "fields": {"user": "u", "password": "p"}}) + "\n" for n in range(3))
    assert gcm.sso("cred", "import", "-", data=lines).json["failed"] == 3
    gcm.sso("rotate", "--generation", made["number"], check=0)
    gcm.put("app", "after", "pw-after", status=201)
    assert gcm.password("app", "first") == "pw-first" and gcm.password("app", "after") == "pw-after"
    wait_for(lambda: gcm.api("GET", "/v1/health").json["encrypt"], "encryption works again")
    assert wraps(gcm) == LIMIT and wraps(gcm, made["number"]) >= BLOCK


# --- whose IV: a generation whose token makes the IVs lives in one token only ---

def two_tokens(make_installation, **control):
    """A backed-up aes256-gcm generation in [hsm], and an empty token in [hsm second]."""
    backup = Backup(installation=make_installation(hsm={"workers": "1"}), init=False)
    installation = backup.installation
    installation.token.add("second")
    installation.write_config(**{"hsm second": {
        **installation.settings["hsm"],
        "token": f"pkcs11:token=second?pin-source=file:{installation.token.pin_file}"}})
    for section, mode in control.items():
        FaultyToken(installation, section.replace("_", " ")).control(f"gcm-iv {mode}")
    backup.init("--suite", "aes256-gcm")
    return backup


def keys_in_second(backup):
    token = backup.installation.token
    first, token.label = token.label, "second"
    try:
        return token.pkcs11_tool("-O").count("Secret Key Object")
    finally:
        token.label = first


def refuse(backup):
    problem = backup.restore(1, 2, options=("--token", "second"), check=1).problem
    assert problem["code"] == "token_not_suitable" and "one token only" in problem["detail"], problem
    assert keys_in_second(backup) == 0
    assert len(backup.installation.sso("key", "show", "1", check=0).json["tokens"]) == 1


def test_a_generation_of_a_token_with_its_own_ivs_is_not_restored_into_a_second(make_installation):
    backup = two_tokens(make_installation, hsm="param")
    shown = backup.installation.sso("key", "show", "1", check=0).json
    assert shown["evidence"]["gcm_iv"] == "parameter"
    refuse(backup)
    backup.lose_token()  # then there is no other, and the backup is what it is for
    backup.installation.token.add("second")
    backup.restore(1, 2, options=("--token", "second"), check=0)
    assert keys_in_second(backup) == 1


def test_a_generation_is_not_restored_into_a_second_token_with_its_own_ivs(make_installation):
    backup = two_tokens(make_installation, hsm_second="front")
    assert backup.installation.sso("key", "show", "1").json["evidence"]["gcm_iv"] == "caller"
    refuse(backup)
