"""What the audit signing key signed is checked without an HSM."""
import hashlib
import struct

import pytest

from installation import principal_of, wait_for


def verify(installation, *arguments, code=0):
    return installation.sso("audit", "verify", *arguments, check=code).json


def text(value):
    data = value.encode()
    return struct.pack(">I", len(data)) + data


def record_hash(previous, row):
    """As common/audit_record.c has it."""
    return hashlib.sha256(
        previous + text("sso-hsm audit record v1") + text(row["node"]) +
        struct.pack(">Qq", row["number"], row["time_ms"]) + text(row["actor"]) + text(row["how"]) +
        text(row["operation"]) + text(row["target"]) + text(row["outcome"]) + row["request_id"] +
        row["row_id"] + struct.pack(">Q", row["row_version"])).digest()


def forge_chain(installation, number, target):
    """A record is changed, and every hash from there on made to fit again."""
    with installation.sql() as sql:
        sql.execute("UPDATE audit SET target = ? WHERE number = ?", [target, number])
        previous = bytes(32)
        for row in sql.execute("SELECT * FROM audit WHERE node = 'node1' ORDER BY number").fetchall():
            previous = record_hash(previous, row)
            sql.execute("UPDATE audit SET hash = ? WHERE number = ?", [previous, row["number"]])
    (installation.directory / "audit-head").unlink()


@pytest.fixture
def signed(running):
    """Ten writes, and all there is signed: a custodian signs when it starts."""
    for n in range(10):
        running.put("app", principal_of(n), "x", status=201)
    running.restart()
    wait_for(lambda: verify(running)["signed_through"].get("node1", 0) >= 12, "the heads are signed")
    running.put("app", "late", "x", status=201)
    running.stop()
    return running


def kinds(report):
    return [each["kind"] for each in report["findings"]]


def test_init_signs_all_it_wrote(initialised):
    report = verify(initialised)
    assert report["ok"] and report["signed_through"] == {"node1": report["records"]}
    with initialised.sql() as sql:
        key = sql.execute("SELECT * FROM audit_keys").fetchall()
        announced = sql.execute("SELECT target FROM audit WHERE operation = 'audit.key'").fetchall()
    fingerprint = hashlib.sha256(key[0]["public_key"]).hexdigest()
    assert [each["target"] for each in announced] == [f"{key[0]['id'].hex()} {fingerprint}"]
    again = initialised.token.pkcs11_tool("-O", "--type", "privkey")
    assert again.count("Private Key Object") == 1 and "never extractable" in again, again
    assert "Usage:      sign\n" in again, again


def test_a_second_generation_in_the_token_shares_its_key(initialised):
    initialised.sso("key", "generate", "--no-backup", check=0)
    with initialised.sql() as sql:
        assert sql.execute("SELECT count(*) FROM audit_keys").fetchone()[0] == 1
    report = verify(initialised)
    assert report["signed_through"] == {"node1": report["records"]}


def test_a_chain_whose_hashes_were_made_to_fit_is_named(signed):
    before = verify(signed)
    assert before["ok"], before
    forge_chain(signed, 8, "app/somebody-else")
    report = verify(signed, code=3)
    assert kinds(report) == ["signature"], report
    assert report["signed_through"].get("node1", 0) < before["signed_through"]["node1"]


@pytest.mark.parametrize("change, number", [
    ("UPDATE audit_signatures SET signature = zeroblob(64) WHERE number = 1", 1),
    ("UPDATE audit_signatures SET time_ms = time_ms + 1 WHERE number = 1", 1),
    ("UPDATE audit_signatures SET heads = zeroblob(4) WHERE number = 1", 1),
    ("UPDATE audit_signatures SET heads = 'junk' WHERE number = 1", 1),
    ("UPDATE audit_signatures SET key_id = zeroblob(16) WHERE number = 1", 1),
    ("DELETE FROM audit_signatures WHERE number = 1", 1),
    ("DELETE FROM audit_keys", 1),
])
def test_what_was_changed_of_the_signatures_is_named(signed, change, number):
    with signed.sql() as sql:
        sql.execute(change)
    report = verify(signed, code=3)
    assert set(kinds(report)) == {"signature"}, report
    assert number in [each["number"] for each in report["findings"]], report


def test_a_key_that_was_exchanged_is_named(signed):
    """No record announces it, and what was signed is not of it."""
    with signed.sql() as sql:
        sql.execute("UPDATE audit_keys SET public_key = x'04' || randomblob(64)")
    report = verify(signed, code=3)
    assert set(kinds(report)) == {"signature"} and report["signed_through"] == {}, report
    # What depends on it only is refused: the service runs, and says that nothing is signed.
    signed.start()
    wait_for(lambda: "audit_unsigned" in signed.api("GET", "/v1/health").body.decode(), "the event")


def test_an_anchor_finds_what_the_database_cannot_tell(signed):
    anchor = signed.directory / "anchor"
    assert verify(signed, "--new-anchor", anchor)["ok"]
    assert verify(signed, "--anchor", anchor)["ok"]
    again = signed.sso("audit", "verify", "--new-anchor", anchor, check=1)
    assert again.problem["code"] == "already_exists"
    with signed.sql() as sql:
        sql.execute("DELETE FROM audit WHERE number > 6")
        sql.execute("DELETE FROM audit_signatures WHERE number > 1")
    kept = (signed.directory / "audit-head").read_text()
    (signed.directory / "audit-head").unlink()
    assert verify(signed)["ok"]
    assert kinds(verify(signed, "--anchor", anchor, code=3)) == ["truncated"]
    # The file that the node keeps is an anchor too.
    anchor.write_text("# kept elsewhere\n\n" + kept)
    assert kinds(verify(signed, "--anchor", anchor, code=3)) == ["truncated"]
    anchor.write_text("node9 5 " + "00" * 32 + "\n")
    report = verify(signed, "--anchor", anchor, code=3)
    assert [(each["node"], each["kind"]) for each in report["findings"]] == [("node9", "truncated")]


def test_only_keys_of_the_anchor_are_believed(signed):
    anchor = signed.directory / "anchor"
    anchor.write_text("key " + "00" * 32 + "\n")
    report = verify(signed, "--anchor", anchor, code=3)
    assert set(kinds(report)) == {"signature"} and report["signed_through"] == {}, report


@pytest.mark.parametrize("line", ["node1", "node1 x " + "00" * 32, "node1 5 00", "key 00",
                                  "a b c d", "node1 5 " + "0" * 300])
def test_a_bad_anchor_is_refused_by_line(initialised, line):
    anchor = initialised.directory / "anchor"
    anchor.write_text("# first\n" + line + "\n")
    refused = initialised.sso("audit", "verify", "--anchor", anchor, check=1)
    assert refused.problem["code"] == "config_error" and "line 2" in refused.problem["detail"]
