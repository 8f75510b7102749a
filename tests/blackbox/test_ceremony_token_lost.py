"""The token goes in the middle of a ceremony: the text says what may be left, and the next ceremony, with
the token back, takes it away and goes through."""

import os

import pytest

from backups import Backup
from faulty import FaultyToken
from installation import SANITIZED
from screens import Screen, take_share
from test_ceremony import secret_keys, signing_keys

LONG = bool(os.environ.get("SSO_HSM_LONG"))
# With the call of each that comes last, before and after the key is in the token.
FUNCTIONS = ["C_CreateObject", "C_WrapKey", "C_UnwrapKey", "C_GenerateKeyPair", "C_Sign"]
if SANITIZED and not LONG:
    FUNCTIONS = FUNCTIONS[2::2]


def faulty_backup(installation):
    installation.faulty = FaultyToken(installation)
    installation.faulty.control()
    return Backup(installation=installation, init=False)


@pytest.fixture
def backup(make_installation):
    return faulty_backup(make_installation())


def interrupted(installation):
    check, = [check for check in installation.sso("doctor").json["checks"]
              if check["id"] == "ceremony.interrupted"]
    return check["result"]


def check_whole(backup):
    """One ceremony's outcome, and nothing of another."""
    it = backup.installation
    assert len(secret_keys(it)) == len(signing_keys(it)) == 1
    assert sorted(path.name for path in backup.folder.iterdir()) == [
        f"share-{n}-of-3.txt" for n in (1, 2, 3)]
    assert backup.drill(1, 3, check=0).json["samples_opened"] == 1
    it.check_open()
    assert interrupted(it) == "PASS"


def lose_at(backup, function, number):
    """False: there is no such call."""
    it = backup.installation
    it.faulty.control(f"{function} at {number} remove")
    done = it.sso("init", "--shares", "2/3", "--shares-dir", backup.folder, "--backup", backup.file)
    fired = it.faulty.fired() > 0
    if not fired:
        assert done.code == 0, done
        return False
    if done.code == 0:  # it was the last thing, and not needed: what was done is done
        it.faulty.control()
        return True
    assert done.problem["code"] in ("hsm_unavailable", "token_not_found"), done
    assert not backup.file.exists() and not list(backup.folder.iterdir()), "no share is out"
    left = interrupted(it)
    it.faulty.control()
    again = it.sso("init", "--shares", "2/3", "--shares-dir", backup.folder, "--backup", backup.file,
                   check=0)
    assert ("was interrupted" in again.err) is (left == "WARN"), again
    return True


@pytest.mark.parametrize("function", FUNCTIONS)
def test_at_a_call(backup, make_installation, function):
    counted = faulty_backup(make_installation())
    counted.init()
    calls = counted.installation.faulty.count(function)
    assert calls > 0
    for number in range(1, calls + 1) if LONG else [calls]:
        if number > 1 and LONG:
            backup = faulty_backup(make_installation())
        assert lose_at(backup, function, number), (function, number)
        check_whole(backup)


def test_while_an_officer_copies(backup):
    """The key is in the token by then: it stays there until the next ceremony, which says so."""
    it = backup.installation
    screen = Screen(it.command("init", "--shares", "1/1", "--backup", backup.file, as_json=False))
    take_share(screen, look=lambda words: it.faulty.control("gone"))
    screen.wait_for("Press Enter to write the backup file.*: ")
    screen.line()
    assert screen.end() != 0, screen.text
    assert "sso-hsm:" in screen.text and "still in the token" in screen.text, screen.text
    assert not backup.file.exists()
    it.faulty.control()
    assert len(secret_keys(it)) == 1 and interrupted(it) == "WARN"
    again = it.sso("init", "--shares", "2/3", "--shares-dir", backup.folder, "--backup", backup.file,
                   check=0)
    assert "was taken out of the token again" in again.err
    check_whole(backup)
