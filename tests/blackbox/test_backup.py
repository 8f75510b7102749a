"""A backup by shares: made, looked at, restored, drilled; and every wrong input."""

import itertools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backups import Backup, words_of
from installation import SANITIZED, wait_for
from test_key import objects

LONG = os.environ.get("SSO_HSM_LONG") == "1"


@pytest.fixture
def backup(make_installation):
    return Backup(installation=make_installation())


@pytest.fixture(scope="module")
def kept():
    """One for the tests that leave it as it was."""
    made = Backup()
    try:
        yield made
    finally:
        made.installation.close()


def master_keys(installation):
    return [each for each in objects(installation.token) if "Secret Key" in each["kind"]]


# --- what is made ---

def test_init_with_shares(kept):
    made, installation = kept.made, kept.installation
    assert made["backup"]["shares"] == "2/3" and made["backup"]["file"] == str(kept.file)
    assert made["backed_up"] is not None and made["share_set"] == made["backup"]["share_set"]
    assert made["evidence"]["accepted"] is True and made["evidence"]["extractable"] is False
    for number in (1, 2, 3):
        share = kept.share(number)
        assert stat.S_IMODE(share.stat().st_mode) == 0o400
        assert len(words_of(share)) == 33
    key, = master_keys(installation)
    assert "extractable" not in key["Access"].replace("never extractable", "")
    transcript = Path(made["backup"]["transcript"]).read_text()
    assert transcript == made["backup"]["transcript_text"]
    for wanted in (made["secret_id"], made["share_set"], made["backup"]["sha256"], "signature:"):
        assert wanted in transcript
    # Neighbours: "secret" or "leader" alone may stand in a transcript.
    words = " ".join(words_of(kept.share(1))[4:12]).split()
    text = " ".join(transcript.split())
    assert not [pair for pair in zip(words, words[1:]) if " ".join(pair) in text], "no share in it"


def test_backup_info_needs_nothing_else(kept, tmp_path):
    shown = subprocess.run([kept.installation.prefix / "bin" / "sso-hsm", "--config",
                            tmp_path / "none", "--json", "key", "backup-info", kept.file],
                           capture_output=True, check=True)
    info = json.loads(shown.stdout)
    assert info["generation"] == 1 and info["secret_id"] == kept.made["secret_id"]
    assert info["share_set"]["shares"] == "2/3" and len(info["share_set"]["fingerprints"]) == 3
    assert info["audit_keys"] and info["system"]["name"] == "test"


def test_health_knows_of_the_backup(make_installation):
    backup = Backup("1/1", make_installation())
    backup.installation.start()
    names = [event["name"] for event in backup.installation.api("GET", "/v1/health").json["events"]]
    assert "backup_missing" not in names and "drill_due" not in names
    text = backup.installation.api("GET", "/metrics").body.decode()
    ages = [line for line in text.splitlines() if line.startswith("sso_hsm_backup_age_seconds")]
    assert len(ages) == 1 and float(ages[0].split()[-1]) >= 0, text


# --- subsets ---

def subsets(count, size):
    return list(itertools.combinations(range(1, count + 1), size))


@pytest.mark.parametrize("shares", ["1/1", "2/3", "3/5", "5/8"])
def test_every_subset_of_m_restores_and_no_smaller_one_does(make_installation, shares):
    """All subsets where N <= 5, each onto an empty token; of 5 of 8 a part in the short form, drilled."""
    backup = Backup(shares, make_installation())
    needed, count = map(int, shares.split("/"))
    enough = subsets(count, needed)
    few = [each for size in range(needed) for each in subsets(count, size)]
    if not LONG and (count > 5 or SANITIZED):
        enough, few = enough[::9], few[::17] + few[-1:]
    restores = enough if count <= 5 or LONG else enough[:1]
    for subset in enough:
        if subset in restores:
            backup.lose_token()
            done = backup.restore(*subset, check=0).json
            assert done["already_there"] is False and done["evidence"]["canary"] is True
        else:
            done = backup.drill(*subset, check=0).json
            assert done["last_drill"] is not None
        assert done["samples"] == done["samples_opened"] == 1, "the policy key"
    backup.installation.check_open()
    backup.lose_token()
    for subset in few:
        assert backup.restore(*subset, check=1).problem["code"] == "too_few_shares", subset
    assert not master_keys(backup.installation)
    print(f"{shares}: {len(restores)} of {len(subsets(count, needed))} subsets restored, "
          f"{len(enough) - len(restores)} drilled; {len(few)} smaller ones refused")


# --- the disaster ---

def test_a_custodian_that_runs_takes_a_restored_key_up(backup):
    backup.lose_token()
    installation = backup.installation.start(wait=None)
    assert installation.look_up("app", "anna").code == "no_master_secret"
    backup.restore(1, 3, check=0)
    wait_for(lambda: installation.api("GET", "/v1/health").json.get("encrypt"), "it was taken up")
    installation.create_app()
    installation.put("app", "anna", "of a key that came back", status=201)


def test_restore_into_the_token_of_another_section(make_installation, tmp_path):
    backup = Backup(installation=make_installation())
    installation = backup.installation
    installation.token.add("second")
    installation.write_config(**{"hsm second": {
        "module": installation.settings["hsm"]["module"],
        "environment": installation.settings["hsm"]["environment"],
        "token": f"pkcs11:token=second?pin-source=file:{installation.token.pin_file}",
        "workers": "1"}})
    done = backup.restore(1, 2, options=("--token", "second"), check=0).json
    assert "token=second" in done["token"] and done["already_there"] is False
    again = backup.restore(1, 2, options=("--token", "second"), check=0).json
    assert again["already_there"] is True
    assert len(installation.sso("key", "show", "1", check=0).json["tokens"]) == 2


def test_a_token_that_has_the_key_is_left_alone(kept):
    before = kept.installation.token.pkcs11_tool("-O")
    done = kept.restore(check=0)  # not even shares are asked for
    assert done.json["already_there"] is True
    assert kept.installation.token.pkcs11_tool("-O") == before


# --- wrong input ---

def tampered(backup, change):
    lines = backup.file.read_text().splitlines(keepends=True)
    changed = backup.installation.directory / "changed.backup"
    changed.write_text("".join(change(line) for line in lines))
    return changed


def flip(name):
    """Changes the first hex digit of one line's value."""
    def change(line):
        if not line.startswith(name + ": "):
            return line
        at = len(name) + 2
        return line[:at] + ("0" if line[at] != "0" else "1") + line[at + 1:]
    return change


@pytest.mark.parametrize("name, code", [
    ("wrapped-key", "backup_tampered"), ("audit-key", "backup_invalid"), ("mac", "backup_tampered"),
    ("check", "backup_tampered"), ("system-id", "backup_of_other_system"),
    ("secret-id", "wrong_master_secret"), ("canary", "wrong_master_secret"),
    ("share-fingerprint", "wrong_shares")])
def test_a_changed_file_is_refused(kept, name, code):
    changed = tampered(kept, flip(name))
    if name == "audit-key":
        changed.write_text(changed.read_text().replace("audit-key", "audit-keys"))
    assert kept.drill(1, 2, file=changed, check=1).problem["code"] == code


def test_files_that_are_no_backup(kept):
    other = kept.installation.directory / "other"
    for content in ("", "sso-hsm backup 1\n", "\0" * 100, kept.file.read_text()[:-1],
                    kept.file.read_text() + "\n"):
        other.write_text(content)
        assert kept.drill(1, 2, file=other, check=1).problem["code"] == "backup_invalid"
    missing = kept.installation.directory / "missing"
    assert kept.drill(1, 2, file=missing, check=1).problem["code"] == "not_found"


def test_wrong_shares_each_have_their_code(kept, make_installation):
    other = Backup(installation=make_installation())
    table = kept.bring(1, 2)
    (table / "share-1-of-3.txt").unlink()
    (table / "share-other.txt").write_text(other.share(1).read_text())

    def drill():
        return kept.installation.sso("key", "drill", kept.file, "--shares-dir", table, check=1).problem

    assert drill()["code"] == "shares_of_different_sets"
    (table / "share-2-of-3.txt").unlink()
    (table / "share-more.txt").write_text(other.share(2).read_text())
    assert drill()["code"] == "wrong_shares"
    table = kept.bring(1, 2)
    (table / "share-again.txt").write_text(kept.share(1).read_text())
    assert drill()["code"] == "share_repeated"
    table = kept.bring(1, 2)
    words = words_of(kept.share(1))
    words[7] = "academic" if words[7] != "academic" else "acid"
    (table / "share-1-of-3.txt").unlink()
    (table / "share-1-of-3.txt").write_text(" ".join(words))
    problem = drill()
    assert problem["code"] == "wrong_shares" and "share-1-of-3.txt" in problem["detail"]
    assert not set(words) & set(problem["detail"].split())
    (table / "share-1-of-3.txt").write_text("no such words")
    assert "word 1" in drill()["detail"]
    assert other.drill(1, 2, file=kept.file, check=1).problem["code"] == "backup_of_other_system"


def test_wrong_input_changes_nothing(backup):
    installation = backup.installation
    backup.lose_token()
    token_before = installation.token.pkcs11_tool("-O")

    def rows():
        with installation.sql() as sql:
            return [tuple(row) for table in ("generations", "generation_tokens", "share_sets", "audit")
                    for row in sql.execute(f"SELECT * FROM {table}")]

    before = rows()
    for numbers, file in (((1,), None), ((1, 2), tampered(backup, flip("wrapped-key")))):
        assert backup.restore(*numbers, file=file).code == 1
    assert installation.token.pkcs11_tool("-O") == token_before and rows() == before


def test_options_that_do_not_go_together(blank, tmp_path):
    for options in (["--shares", "2/3"], ["--shares", "3/2", "--backup", "b"], ["--shares", "1/2",
                    "--backup", "b"], ["--shares", "2/17", "--backup", "b"], ["--shares", "2", "--backup",
                    "b"], ["--shares", "2/3 ", "--backup", "b"], ["--no-backup", "--backup", "b"],
                    ["--shares", "2/3", "--no-backup", "--backup", "b"], []):
        assert blank.sso("init", *options).code == 2, options
    used = tmp_path / "used"
    used.write_text("")
    there = blank.sso("init", "--shares", "2/3", "--shares-dir", tmp_path, "--backup", used, check=1)
    assert there.problem["code"] == "already_exists" and used.read_text() == ""
    (tmp_path / "share-1-of-9.txt").write_text("")
    full = blank.sso("init", "--shares", "2/3", "--shares-dir", tmp_path, "--backup",
                     tmp_path / "b", check=1)
    assert full.problem["code"] == "already_exists" and not master_keys(blank)


# --- further generations ---

def test_a_share_set_backs_further_generations(backup):
    installation = backup.installation
    second = installation.directory / "generation-2.backup"
    share_set = backup.made["share_set"]

    def generate(*numbers, name=share_set):
        return installation.sso("key", "generate", "--share-set", name, "--shares-dir",
                                backup.bring(*numbers), "--backup", second)

    assert generate(1).problem["code"] == "too_few_shares"
    assert generate(1, 2, name="01a00000-0000-7000-8000-000000000000").problem["code"] == "not_found"
    assert not second.exists()
    made = generate(1, 3).json
    assert made["number"] == 2 and made["share_set"] == share_set
    installation.start()
    installation.create_app()
    installation.fill(20)
    assert installation.sso("rotate", check=0).lines[-1]["to"] == 2
    installation.stop()
    backup.lose_token()
    first = backup.restore(1, 2, check=1).problem
    assert "restore that one first" in first["detail"]
    backup.restore(2, 3, file=second, check=0)
    backup.restore(1, 2, check=0)
    assert installation.check_open()["opened"] == 20


def test_gcm_generation_restores(make_installation):
    backup = Backup(installation=make_installation(), init=False)
    backup.init("--suite", "aes256-gcm")
    backup.lose_token()
    backup.restore(1, 2, check=0)
    backup.installation.check_open()


# --- new officers ---

def reshare(backup, folder, shares="2/2", numbers=(1, 2), **options):
    new = backup.installation.directory / "new-officers"
    new.mkdir(exist_ok=True)
    return backup.installation.sso("key", "reshare", "--shares", shares, "--shares-dir",
                                   backup.bring(*numbers), "--new-shares-dir", new, "--backup-dir",
                                   folder, **options), new


def test_new_officers_take_over(backup):
    installation = backup.installation
    folder = installation.directory / "backups"
    folder.mkdir()
    second = folder / "generation-2"
    installation.sso("key", "generate", "--share-set", backup.made["share_set"], "--shares-dir",
                     backup.bring(1, 2), "--backup", second, check=0)
    installation.sso("key", "generate", "--no-backup", check=0)
    missing, _ = reshare(backup, folder)
    assert missing.code == 1 and missing.problem["code"] == "not_found", missing
    assert "generation 1" in missing.problem["detail"]
    backup.file.rename(folder / "generation-1")
    few, _ = reshare(backup, folder, numbers=(3,))
    assert few.problem["code"] == "too_few_shares"
    assert sorted(path.name for path in folder.iterdir()) == ["generation-1", "generation-2",
                                                              "generation-2.transcript"]
    done, new = reshare(backup, folder)
    assert done.code == 0, done
    done = done.json
    assert done["without_backup"] == [3] and len(done["files"]) == 2
    assert done["to_destroy"] == {"files": [str(folder / "generation-1"), str(second)],
                                  "share_sets": [backup.made["share_set"]]}
    assert Path(done["transcript"]).exists()
    installation.start()
    listed = installation.sso("key", "list", check=0).json["generations"]
    assert [each["share_set"] for each in listed] == [done["share_set"], done["share_set"], None]
    installation.stop()
    backup.lose_token()
    again = installation.sso("key", "restore", done["files"][0], "--shares-dir", new, check=0).json
    assert again["number"] == 1
    installation.sso("key", "restore", done["files"][1], "--shares-dir", new, check=0)
    installation.sso("db", "check", "--open")
    wrong = backup.drill(1, 2, file=done["files"][0], check=1)
    assert wrong.problem["code"] == "wrong_shares"


# --- without our programs ---

def test_a_stranger_restores_with_openssl(kept):
    """Only the format's document, the shares and OpenSSL (restore_by_hand.py): the key that comes out
    opens the canary."""
    helper = Path(__file__).with_name("restore_by_hand.py")
    done = subprocess.run(["/usr/bin/python3", "-B", helper, kept.file, kept.share(1), kept.share(3)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the canary opens: this is the master secret of generation 1"
    few = subprocess.run([sys.executable, "-B", helper, kept.file, kept.share(1)],
                         capture_output=True, text=True, check=False)
    assert few.returncode != 0
