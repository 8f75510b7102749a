"""Ceremonies at the terminal, and ceremonies that are interrupted."""

import os
import re
import signal
import subprocess

import pytest

from backups import Backup
from installation import SANITIZED, wait_for
from screens import Screen, give_share, take_share
from test_key import objects


def secret_keys(installation):
    return [each for each in objects(installation.token) if "Secret Key" in each["kind"]]


def signing_keys(installation):
    listed = installation.token.pkcs11_tool("-O", "--type", "privkey").splitlines()
    return [line for line in listed if line.startswith("Private Key Object")]


def ceremony(installation, *arguments):
    return Screen(installation.command(*arguments, as_json=False))


def init_on_screen(installation, *options, shares="2/3", **how):
    """Returns the words of each officer's share."""
    screen = ceremony(installation, "init", "--shares", shares, "--backup",
                      installation.directory / "backup", *options)
    taken = [take_share(screen, **how) for _ in range(int(shares.split("/")[1]))]
    screen.wait_for("Press Enter to write the backup file.*: ")
    screen.line()
    assert screen.end() == 0, screen.text
    return taken, screen.text


def test_officers_at_the_terminal(blank):
    taken, text = init_on_screen(blank, letters=4)
    assert [len(words) for words in taken] == [33, 33, 33]
    # Each screen is cleared before anything else is shown, and the last one at the end.
    shown = [text.index(f"share {n} of 3\n") for n in (1, 2, 3)]
    for begin in shown:
        assert text.index("\033[2J\033[3J\033[H", begin) < text.index("Word ", begin)
    after = text.rindex("\033[?1049l")
    for words in taken:
        assert not re.search(r"\d \b" + words[5] + r"\b.*" + words[6], text[after:])
    blank.token.pkcs11_tool("--delete-object", "--type", "secrkey", "--id",
                            blank.sso("key", "show", check=0).json["secret_id"])
    screen = ceremony(blank, "key", "restore", blank.directory / "backup")
    give_share(screen, [word[:4] for word in taken[2]])
    give_share(screen, taken[0], per_line=1)
    assert screen.end() == 0, screen.text
    blank.check_open()


def test_a_word_typed_wrong_shows_the_share_again(blank):
    taken, text = init_on_screen(blank, shares="1/1", wrong_first=True)
    assert "That is another word" in text and len(taken) == 1


def test_passphrase(blank):
    screen = ceremony(blank, "init", "--shares", "1/1", "--passphrase", "--backup",
                      blank.directory / "backup", "--shares-dir", blank.directory)
    for prompt in ("Passphrase of the shares: ", "Once more: "):
        screen.wait_for(prompt)
        screen.line("correct horse ~")
    assert screen.end() == 0, screen.text
    assert "horse" not in screen.text
    for typed, code in (("correct horse ~", 0), ("wrong horse", 1)):
        screen = ceremony(blank, "key", "drill", blank.directory / "backup", "--shares-dir",
                          blank.directory)
        screen.wait_for("Passphrase of the shares: ")
        screen.line(typed)
        assert screen.end() == code, screen.text
    assert "wrong_passphrase" in screen.text


def test_wrong_shares_are_asked_for_again(blank):
    taken, _ = init_on_screen(blank)
    screen = ceremony(blank, "key", "drill", blank.directory / "backup")
    wrong = list(taken[0])
    wrong[9] = "acid" if wrong[9] != "acid" else "acne"
    give_share(screen, wrong)
    screen.wait_for("Share 1 has to be typed again: its checksum does not fit")
    screen.wait_for(r"Word 1: ")
    screen.line("notaword")
    screen.wait_for("word 1 is none of the list")
    screen.line(" ".join(taken[0]))
    give_share(screen, taken[0])
    screen.wait_for("Share 2 has to be typed again: this share was given before")
    screen.wait_for(r"Word 1: ")
    screen.line(" ".join(taken[1]))
    assert screen.end() == 0, screen.text
    screen = ceremony(blank, "key", "drill", blank.directory / "backup")
    give_share(screen, taken[0])
    screen.wait_for("sit down with your share.*Press Enter: ")
    screen.line()
    screen.wait_for("Word 1: ")
    screen.line()
    assert screen.end() == 1 and "too_few_shares" in screen.text


# --- interrupted ---

@pytest.mark.parametrize("where", ["at the officer's seat", "at a word", "at the last prompt"])
def test_ctrl_c_leaves_nothing(blank, where):
    screen = ceremony(blank, "init", "--shares", "1/1", "--backup", blank.directory / "backup")
    if where == "at the officer's seat":
        screen.wait_for("please sit down.*Press Enter: ")
    elif where == "at a word":
        screen.wait_for("please sit down.*Press Enter: ")
        screen.line()
        screen.wait_for("compared once: ")
    else:
        take_share(screen)
        screen.wait_for("Press Enter to write the backup file.*: ")
    screen.interrupt()
    assert screen.end() == 1, screen.text
    assert "interrupted" in screen.text and "was destroyed again" in screen.text
    assert not secret_keys(blank) and not list(blank.directory.glob("backup*"))
    blank.init()


POINTS = ["ceremony.journal", "ceremony.key", "ceremony.audit-key", "ceremony.shares",
          "ceremony.file", "ceremony.backup", "ceremony.transcript", "ceremony.store",
          "ceremony.stored"]
RESTORE_POINTS = ["ceremony.journal", "ceremony.key", "ceremony.audit-key", "ceremony.store",
                  "ceremony.stored"]
if SANITIZED and os.environ.get("SSO_HSM_LONG") != "1":
    POINTS, RESTORE_POINTS = POINTS[2::3], RESTORE_POINTS[0::2]


def run_killed(installation, point, *arguments):
    done = subprocess.run(installation.command(*arguments), capture_output=True, check=False, cwd="/",
                          env={**os.environ, "SSO_HSM_FAULT": f"{point}:kill"})
    assert done.returncode == -signal.SIGKILL, (point, done)
    wait_for(lambda: not installation.processes_left(), "workers end with the ceremony")


@pytest.mark.parametrize("point", POINTS)
def test_init_killed_at_each_point_goes_on_cleanly(fault_installation, point):
    installation = fault_installation
    folder = installation.directory / "officers"
    folder.mkdir()
    command = ("init", "--shares", "2/3", "--shares-dir", folder, "--backup",
               installation.directory / "backup")
    run_killed(installation, point, *command)
    doctor = installation.sso("doctor").json["checks"]
    told = [check for check in doctor if check["id"] == "ceremony.interrupted"]
    assert told and told[0]["result"] == "WARN" and "sso-hsm:" in told[0]["detail"], told
    again = installation.sso(*command)
    if point == "ceremony.stored":
        assert again.problem["code"] == "already_exists", again
    else:
        assert again.code == 0 and "a ceremony was interrupted" in again.err, again
    assert len(secret_keys(installation)) == len(signing_keys(installation)) == 1
    installation.check_open()
    drilled = installation.sso("key", "drill", installation.directory / "backup", "--shares-dir",
                               folder, check=0).json
    assert drilled["samples_opened"] == 1


def test_a_key_is_not_undone_for_an_older_database(fault_installation):
    """The ceremony was done and its journal not yet cleared: the database that would be in its place
    knows nothing of it, which says nothing about the key. None is made there, and the key stays."""
    it = fault_installation
    run_killed(it, "ceremony.stored", "init", "--no-backup")
    aside = it.directory / "aside"
    aside.mkdir()
    for path in list(it.database.parent.glob(it.database.name + "*")):
        path.rename(aside / path.name)
    refused = it.sso("init", "--no-backup")
    assert refused.code != 0 and refused.problem["code"] in ("in_use", "database_went_back"), refused
    assert len(secret_keys(it)) == 1
    for path in list(it.database.parent.glob(it.database.name + "*")):
        path.unlink()
    for path in aside.iterdir():
        path.rename(it.database.parent / path.name)
    it.check_open()
    it.sso("key", "generate", "--no-backup", check=0)
    assert len(secret_keys(it)) == 2


@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_restore_killed_at_each_point_goes_on_cleanly(fault_installation, point):
    backup = Backup(installation=fault_installation)
    backup.lose_token()
    run_killed(backup.installation, point, "key", "restore", backup.file, "--shares-dir",
               backup.bring(1, 2))
    done = backup.restore(1, 2, check=0).json
    assert done["already_there"] is (point == "ceremony.stored")
    assert len(secret_keys(backup.installation)) == len(signing_keys(backup.installation)) == 1
    backup.installation.check_open()


@pytest.mark.parametrize("point", ["ceremony.wrapped", "ceremony.installed"])
def test_a_worker_killed_over_the_key_leaves_nothing_for_good(fault_installation, point):
    installation = fault_installation
    environment = installation.settings["hsm"]["environment"]
    installation.write_config(hsm={"environment": f"{environment},SSO_HSM_FAULT={point}:kill"})
    folder = installation.directory / "officers"
    folder.mkdir()
    command = ("init", "--shares", "1/1", "--shares-dir", folder, "--backup",
               installation.directory / "backup")
    failed = installation.sso(*command)
    assert failed.problem["code"] == "hsm_unavailable" and "may be left" in failed.problem["detail"]
    installation.write_config(hsm={"environment": environment})
    done = installation.sso(*command, check=0)
    assert "was interrupted" in done.err
    assert len(secret_keys(installation)) == 1 and not list(installation.directory.glob("*.part"))
