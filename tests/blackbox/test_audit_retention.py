"""Old audit records are taken away only when they were exported, signed and kept for long enough;
what is left can be verified, and records that went another way are missed."""

import shutil

import pytest

from installation import principal_of, wait_for


def verify(it, *arguments, code=0):
    return it.sso("audit", "verify", *arguments, check=code).json


def kinds(report):
    return {each["kind"] for each in report["findings"]}


def sign(it):
    """A custodian signs when it starts."""
    last = verify(it)["records"]
    it.restart()
    wait_for(lambda: verify(it)["signed_through"].get("node1", 0) >= last, "the heads are signed")


def export(it, name):
    path = it.directory / name
    path.write_text(it.sso("audit", "export", check=0).out)
    return path


def first_and_last(it):
    with it.sql() as sql:
        return tuple(sql.execute("SELECT min(number), max(number) FROM audit").fetchone())


@pytest.fixture
def exported(running):
    for n in range(10):
        running.put("app", principal_of(n), "x", status=201)
    sign(running)
    running.put("app", "late", "x", status=201)
    return running, export(running, "first.jsonl")


def prune(it, path):
    """Once its records are older than audit.keep."""
    it.sso("settings", "set", "audit.keep=1s", check=0)

    def pruned():
        result = it.sso("audit", "prune", path, check=0).json
        return result if result["pruned"] > 0 else None
    return wait_for(pruned, "the records are old enough")


def test_what_is_left_is_sound(exported):
    it, path = exported
    anchor = it.directory / "anchor"
    it.sso("audit", "verify", "--new-anchor", anchor, check=0)
    young = it.sso("audit", "prune", path, check=0).json
    assert young == {"node": "node1", "pruned": 0, "through": 0}, "younger than audit.keep"

    result = prune(it, path)
    assert first_and_last(it)[0] == result["through"] + 1 == result["pruned"] + 1
    report = verify(it, "--anchor", anchor)
    assert report["ok"] and it.sso("db", "check", "--against-audit", check=0).json["ok"]
    assert it.password("app", principal_of(3)) == "x"

    # Once more: what announced base and key is itself pruned, and announced anew.
    sign(it)
    again = prune(it, export(it, "second.jsonl"))
    assert again["through"] > result["through"] and first_and_last(it)[0] == again["through"] + 1
    report = verify(it, "--anchor", anchor)
    assert report["ok"] and report["signed_through"]["node1"] >= again["through"]
    assert it.sso("db", "check", "--against-audit", check=0).json["ok"]


MORE_GONE = ("UPDATE audit_bases SET (number, hash) = (SELECT number, hash FROM audit WHERE number ="
             " (SELECT min(number) FROM audit)); DELETE FROM audit WHERE number <="
             " (SELECT number FROM audit_bases)")


@pytest.mark.parametrize("before_pruning", [True, False])
def test_records_that_went_another_way_are_missed(exported, before_pruning):
    it, path = exported
    if before_pruning:
        changes = ["DELETE FROM audit WHERE number <= 5",
                   "INSERT INTO audit_bases SELECT node, number, hash, 1, time_ms, zeroblob(32) FROM audit WHERE"
                   " number = 5; DELETE FROM audit WHERE number <= 5"]
    else:
        prune(it, path)
        changes = ["DELETE FROM audit_bases", MORE_GONE,
                   "DELETE FROM audit WHERE number = (SELECT min(number) FROM audit)",
                   "UPDATE audit SET target = 'x' WHERE operation = 'audit.prune' AND target LIKE"
                   " 'records of %'",
                   "DELETE FROM audit WHERE operation = 'audit.prune'",
                   "UPDATE audit_bases SET signature = signature + 1",
                   "UPDATE audit_bases SET hash = zeroblob(32)"]
    it.stop()
    assert verify(it)["ok"]
    kept = it.directory / "kept.db"
    shutil.copy(it.database, kept)
    for change in changes:
        with it.sql() as sql:
            sql.executescript(change)
        report = verify(it, code=3)
        assert kinds(report) & {"missing", "changed"}, (change, report)
        for path in it.directory.glob("credentials.db*"):
            path.unlink()
        shutil.copy(kept, it.database)
    assert verify(it)["ok"]


def test_a_beginning_of_another_hand_excuses_nothing(exported):
    """It would excuse rows that the audit knows nothing of, and be announced as ours."""
    it, path = exported
    it.sso("settings", "set", "audit.keep=1s", check=0)
    with it.sql() as sql:
        sql.execute("INSERT INTO audit_bases VALUES ('node2', 9, zeroblob(32), 1, 1 << 60, zeroblob(32))")
        before = first_and_last(it)
    for options in (["--against-audit"], ["--open", "--against-audit"]):
        checked = it.sso("db", "check", *options, check=3).json
        assert [each["code"] for each in checked["failures"]] == ["policy_tampered"], checked
    refused = it.sso("audit", "prune", path)
    assert refused.code != 0 and refused.problem["code"] == "policy_tampered", refused
    assert first_and_last(it)[0] == before[0] == 1
    with it.sql() as sql:
        sql.execute("DELETE FROM audit_bases")
    assert it.sso("db", "check", "--against-audit", check=0).json["ok"]
    prune(it, path)


def test_only_what_was_exported_is_pruned(exported):
    it, path = exported
    lines = path.read_text().splitlines(keepends=True)
    it.sso("settings", "set", "audit.keep=1s", check=0)
    wrong = it.directory / "wrong.jsonl"
    for number, text in [(3, lines[:2] + lines[3:]), (2, [lines[0], lines[1].replace('"ok"', '"no"')]),
                         (1, ["{}\n"]), (2, [lines[0], "no JSON\n"])]:
        wrong.write_text("".join(text))
        problem = it.sso("audit", "prune", wrong, check=1).problem
        assert problem["code"] == "bad_request" and f"line {number}" in problem["detail"], problem
    wrong.write_text("")
    assert "no record" in it.sso("audit", "prune", wrong, check=1).problem["detail"]
    reply = it.api("POST", "/v1/audit:prune", {"through": 5, "hash": "00" * 32})
    assert reply.code == "not_found", reply
    assert first_and_last(it)[0] == 1
    # Only a part of it was: nothing above is touched, and nothing that no signature covers.
    wrong.write_text("".join(lines[:3]))
    assert it.sso("audit", "prune", wrong, check=0).json["through"] <= 3
    assert verify(it)["ok"]
