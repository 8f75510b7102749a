"""New officers: every live backup under a new share set, and what an interruption leaves."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from backups import Backup, words_of
from installation import SANITIZED, wait_for
from screens import Screen, give_share

POINTS = ["ceremony.journal", "ceremony.shares", "ceremony.file", "ceremony.backup",
          "ceremony.transcript", "ceremony.store", "ceremony.stored"]
if SANITIZED and os.environ.get("SSO_HSM_LONG") != "1":
    POINTS = POINTS[1::2]


class Resharing:
    """A system whose backup lies in a folder, beside which the new ones go."""

    def __init__(self, installation, shares="2/3"):
        self.backup = Backup(shares, installation, init=False)
        self.installation = installation
        self.folder, self.new = (installation.directory / name for name in ("backups", "new"))
        self.folder.mkdir()
        self.new.mkdir()
        self.backup.file = self.folder / "generation-1"
        self.made = self.backup.init()

    def command(self, table=None):
        return ("key", "reshare", "--shares", "2/2", "--shares-dir", table or self.backup.bring(1, 2),
                "--new-shares-dir", self.new, "--backup-dir", self.folder)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def shares(self):
        return sorted(path.name for path in self.new.iterdir())

    def set_now(self):
        with self.installation.sql() as sql:
            return sql.execute("SELECT share_set FROM generations WHERE number = 1").fetchone()[0]

    def interrupted(self):
        check, = [check for check in self.installation.sso("doctor").json["checks"]
                  if check["id"] == "ceremony.interrupted"]
        return check


@pytest.fixture
def resharing(make_installation):
    return Resharing(make_installation())


def test_transcript_and_audit(resharing):
    done = resharing.installation.sso(*resharing.command(), check=0).json
    text = Path(done["transcript"]).read_text()
    assert text == done["transcript_text"]
    for wanted in ("ceremony:     key reshare", ", id ", "host: ", done["share_set"], "signature:",
                   "audit key:", "witness", "its SHA-256:", "proven:", *done["files"],
                   *done["to_destroy"]["files"]):
        assert wanted in text, (wanted, text)
    with resharing.installation.sql() as sql:
        operations = [row[0] for row in sql.execute("SELECT operation FROM audit ORDER BY number")]
    assert operations[-2:] == ["backup.reshare", "ceremony.transcript"]
    assert resharing.interrupted()["result"] == "PASS"


def test_two_share_sets_at_once(resharing):
    """The folder holds the shares of both, as it has to."""
    it = resharing.installation
    second = it.directory / "second-officers"
    second.mkdir()
    it.sso("key", "generate", "--shares", "2/2", "--shares-dir", second, "--backup",
           resharing.folder / "generation-2", check=0)
    table = resharing.backup.bring(1, 3)
    few = it.sso(*resharing.command(table), check=1).problem
    assert few["code"] in ("too_few_shares", "shares_of_different_sets", "wrong_shares"), few
    assert resharing.shares() == []
    for path in second.iterdir():
        (table / path.name).write_text(path.read_text())
    done = it.sso(*resharing.command(table), check=0).json
    assert len(done["files"]) == 2 and len(done["to_destroy"]["share_sets"]) == 2
    for file in done["files"]:
        drilled = it.sso("key", "drill", file, "--shares-dir", resharing.new, check=0).json
        assert drilled["last_drill"] is not None
    # Restoring wants one set, and says so: which of them is the wrong one is not for it to say.
    mixed = it.sso("key", "drill", done["files"][0], "--shares-dir", table, check=1).problem
    assert mixed["code"] == "shares_of_different_sets"


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_point_goes_on_cleanly(fault_installation, point):
    resharing = Resharing(fault_installation)
    it, before, old_set = resharing.installation, resharing.files(), resharing.set_now()
    command = resharing.command()
    done = subprocess.run(it.command(*command), capture_output=True, check=False, cwd="/",
                          env={**os.environ, "SSO_HSM_FAULT": f"{point}:kill"})
    assert done.returncode == -signal.SIGKILL, (point, done)
    wait_for(lambda: not it.processes_left(), "workers end with the ceremony")
    told = resharing.interrupted()
    assert told["result"] == "WARN" and str(resharing.folder) in told["detail"], told
    committed = resharing.set_now() != old_set
    assert committed is (point == "ceremony.stored")
    if committed:  # the old shares are of no use any more, and nothing of the new is taken away
        # Any ceremony looks after it: this one finds that it was done.
        again = it.sso("key", "generate", "--no-backup", check=0)
        assert "after it was done" in again.err
        file, = resharing.folder.glob("generation-1-*.backup")
        it.sso("key", "drill", file, "--shares-dir", resharing.new, check=0)
    else:
        resharing.backup.drill(1, 2, check=0)  # what there was goes on being right
        again = it.sso("key", "generate", "--no-backup", check=0)
        assert "was interrupted" in again.err
        assert resharing.files() == before and resharing.shares() == []
        done = it.sso(*resharing.command(), check=0).json
        it.sso("key", "drill", done["files"][0], "--shares-dir", resharing.new, check=0)
    assert resharing.interrupted()["result"] == "PASS"
    assert not list(resharing.folder.glob("*.part"))


def test_ctrl_c_leaves_nothing(resharing):
    it, before, old_set = resharing.installation, resharing.files(), resharing.set_now()
    screen = Screen(it.command("key", "reshare", "--shares", "1/1", "--shares-dir",
                               resharing.backup.bring(1, 2), "--backup-dir", resharing.folder,
                               as_json=False))
    screen.wait_for("please sit down.*Press Enter: ")
    screen.interrupt()
    assert screen.end() == 1 and "interrupted" in screen.text, screen.text
    assert resharing.files() == before and resharing.set_now() == old_set
    assert resharing.interrupted()["result"] == "PASS"


def test_a_drill_keeps_what_happened_meanwhile(make_installation):
    """The officers type for an hour; the generation's row is not as it was before."""
    backup = Backup(installation=make_installation())
    it = backup.installation
    it.start()
    screen = Screen(it.command("key", "drill", backup.file, as_json=False))
    screen.wait_for("sit down with your share.*Press Enter: ")
    it.sso("key", "mark-compromised", "1", check=0)
    screen.seen = 0
    for number in (1, 2):
        give_share(screen, words_of(backup.share(number)))
    assert screen.end() == 0, screen.text
    generation, = it.sso("key", "list", check=0).json["generations"]
    assert generation["compromised"] is True and generation["last_drill"] is not None
