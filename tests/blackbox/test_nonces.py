"""aes256-gcm: wraps of a generation are counted, warned of at 2^31 and refused at 2^32. Nobody waits
for four thousand million wraps, so the count is put there in the database: it stands outside the
policy tag, and only ever rises."""

import json

import pytest

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
