"""Disasters, played to their end."""
import os

import pytest

from backups import Backup
from installation import SANITIZED, password_of, wait_for
from test_destroy import keys_in_token, signature_fits
from test_went_back import accept, generations, has_event, numbers_used, of, put_back

ROWS = 100_000 if os.environ.get("SSO_HSM_LONG") == "1" else 500 if SANITIZED else 2_000


@pytest.fixture
def filled(make_installation):
    """A system whose only generation has a backup, with credentials in it."""
    backup = Backup(installation=make_installation(keys={"retired_keep": "1ms"}))
    backup.installation.start()
    backup.installation.create_app()
    backup.installation.fill(ROWS)
    return backup


def every_credential_opens(it):
    assert it.check_open()["opened"] == ROWS
    exported = it.sso("cred", "export", "app", check=0).lines
    assert {each["principal"]: each["fields"]["password"] for each in exported} == {
        f"p{n:06d}": password_of(n) for n in range(ROWS)}
    print(f"{ROWS} credentials open")


def test_the_token_is_lost(filled):
    it = filled.installation
    it.stop()
    filled.lose_token()
    it.start(wait=None)
    assert it.look_up("app", "p000001").code == "no_master_secret"
    it.stop()
    done = filled.restore(2, 3, check=0).json
    assert done["samples"] == done["samples_opened"] > 60
    it.start()
    every_credential_opens(it)
    it.put("app", "new", "written after the disaster", status=201)
    assert it.sso("audit", "verify", check=0).json["ok"]


def test_on_the_token_of_a_second_machine(filled, make_installation):
    """Another token directory, another state directory, another node; the database was copied."""
    first = filled.installation
    first.stop()
    second = make_installation(cluster={"node": "node2"})
    second.write_config(system={"name": "test", "state_directory": second.directory})
    put_back(second, first.database)
    second.start(wait=None)
    assert second.look_up("app", "p000001").code == "no_master_secret"
    done = second.sso("key", "restore", filled.file, "--shares-dir", filled.bring(1, 3), check=0).json
    assert done["already_there"] is False and done["evidence"]["canary"] is True
    wait_for(lambda: second.api("GET", "/v1/health").json.get("encrypt"), "it was taken up")
    every_credential_opens(second)
    assert len(second.sso("key", "show", check=0).json["tokens"]) == 2


def test_an_older_database_whose_generation_was_destroyed_since(filled):
    it = filled.installation
    copy = it.directory / "older.db"
    needed = it.sso("db", "backup", copy, check=0).json["generations"]
    assert [(each["number"], each["rows"], each["share_set"]) for each in needed] == [
        (1, ROWS, filled.made["share_set"])]
    it.sso("rotate", "--no-backup", "--full-speed", check=0)
    it.sso("db", "check", "--open", check=0)
    for wanted in ("destroying", "destroyed"):
        done = it.sso("key", "destroy", "1", "--for-ever", "--grace", "1ms", check=0).json
        assert done["state"] == wanted
    assert keys_in_token(it) == 1
    it.stop()
    assert it.sso("db", "backup-info", copy, check=0).json["generations"] == needed
    put_back(it, copy)
    it.start(wait=None)
    assert it.look_up("app", "p000001").code == "no_master_secret"
    assert has_event(it)
    # Not by the way.
    refused = filled.restore(1, 2, check=2)
    assert "was destroyed" in refused.problem["detail"] and keys_in_token(it) == 1
    done = filled.restore(1, 2, options=("--destroyed",), check=0).json
    assert "which was destroyed, is restored" in done["statement"] and signature_fits(it, done)
    kept = (it.directory / "statements" / "generation-1-restored").read_text()
    assert kept.startswith(done["statement"])
    # It is read now, and not written to before it is accepted.
    wait_for(lambda: it.look_up("app", "p000001").status == 200, "the restored key was taken up")
    assert it.put("app", "p000001", "x").code == "database_went_back"
    done = accept(it)
    assert done["active"] == 2 and of(done, 1)["state"] == "retiring", done
    wait_for(lambda: not has_event(it), "the event ends")
    every_credential_opens(it)
    operations = [each["operation"] for each in it.sso("audit", "export", check=0).lines]
    assert "generation.restore-destroyed" in operations
    # And once more to its end.
    it.sso("rotate", "--no-backup", "--full-speed", check=0)
    assert numbers_used(it)[0] == 3 and generations(it)[1]["state"] == "retired"
    it.sso("db", "check", "--open", check=0)
    for wanted in ("destroying", "destroyed"):
        done = it.sso("key", "destroy", "1", "--for-ever", "--grace", "1ms", check=0).json
        assert done["state"] == wanted
    assert it.sso("audit", "verify", check=0).json["ok"]


def test_what_was_not_destroyed_needs_no_such_word(make_installation):
    backup = Backup(installation=make_installation())
    backup.lose_token()
    refused = backup.restore(1, 2, options=("--destroyed",), check=2)
    assert "was not destroyed" in refused.problem["detail"]
    backup.restore(1, 2, check=0)
