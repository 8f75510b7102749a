"""What sso-hsm and its worker hold while officers sit at the terminal: at the last prompt of a ceremony
nothing of what is secret, with controls that find it where it has to be."""

import os
import re
import signal
import struct

import pytest

from backups import Backup, words_of
from installation import SANITIZED, descendants_of, wait_for
from memory import locked_mappings, scan
from restore_by_hand import hkdf, join, share_of, word_list
from screens import Screen, give_share, take_share
from test_key import objects

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of processes that are not dumpable"),
    pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps freed memory")]

WORDS = word_list()
AT = (4, 12, 20, 27)  # before the fourth word all shares of a set are alike
RUN = 4               # words in a row


def both_halves(data):
    """Where one end of it was wiped, the other is found."""
    half = len(data) // 2
    return [data[:half], data[half:], data.hex().encode()]


def of_words(words):
    """A share as text and as the numbers of its words."""
    runs = [words[at:at + RUN] for at in AT]
    return [" ".join(run).encode() for run in runs] + \
        [struct.pack(f"<{RUN}H", *(WORDS.index(word) for word in run)) for run in runs]


def of_value(words):
    return both_halves(share_of(words, WORDS)["value"])


def of_secret(shares, system_id, generation=1):
    """The backup secret, and what is made of it: the key that wraps the master secret, and the file's
    MAC key."""
    secret = join([share_of(words, WORDS) for words in shares])
    info = b"sso-hsm backup v1" + system_id + generation.to_bytes(4, "big")
    return [needle for data in (secret, hkdf(secret, info + b"kek", 32), hkdf(secret, info + b"mac", 32))
            for needle in both_halves(data)]


def system_id_of(installation):
    """As the key in the token has it, since there is no row yet."""
    label, = [each["label"] for each in objects(installation.token) if "Secret Key" in each["kind"]]
    return bytes.fromhex(re.fullmatch(r"sso-hsm:([0-9a-f-]{32,36}):1", label)[1].replace("-", ""))


def family(pid):
    """sso-hsm and all that it started: {pid: name}."""
    return {pid: "sso-hsm", **dict(descendants_of(pid))}


def found_anywhere(pid, needles):
    pids = family(pid)
    assert len(pids) >= 3, "sso-hsm, its spawner and a worker"
    return [(pids[each], hits) for each in pids if (hits := scan(each, needles))]


def pin_of(installation):
    return [installation.token.pin.encode(), installation.token.pin.encode("utf-16-le")]


def test_at_the_last_prompt_of_init(blank):
    screen = Screen(blank.command("init", "--shares", "2/3", "--backup", blank.directory / "backup",
                                  as_json=False))

    def found_while_shown(words):
        """Control: the share that is on the screen is found, in locked memory."""
        hits = scan(screen.pid, of_value(words) + of_words(words))
        locked = locked_mappings(screen.pid)
        assert hits and all(where.split()[0] in locked for where, _ in hits), hits

    shares = [take_share(screen, look=found_while_shown) for _ in range(3)]
    screen.wait_for("Press Enter to write the backup file.*: ")

    secrets = of_secret(shares[:2], system_id_of(blank)) + pin_of(blank)
    for words in shares:
        secrets += of_value(words) + of_words(words)
    hits = found_anywhere(screen.pid, secrets)
    assert not hits, hits
    screen.line()
    assert screen.end() == 0, screen.text


def begin_restore(installation, backup, environment=None):
    command = installation.command("key", "restore", backup.file, as_json=False)
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    return Screen(["/usr/bin/env", *variables, *command])


def test_at_the_last_prompt_of_restore(make_installation):
    """The share of the officer who is done waits for the others: its value, in locked memory, and
    nothing of its words."""
    backup = Backup(installation=make_installation())
    it = backup.installation
    system_id = system_id_of(it)
    backup.lose_token()
    shares = [words_of(backup.share(number)) for number in (1, 3)]
    screen = begin_restore(it, backup)
    give_share(screen, shares[0])
    screen.wait_for("sit down with your share.*Press Enter: ")
    screen.line()
    for at in (0, 11):
        screen.wait_for(r"Word \d+: ")
        screen.line(" ".join(shares[1][at:at + 11]))
    screen.wait_for("Word 23: ")
    hits = found_anywhere(screen.pid, of_secret(shares, system_id) + pin_of(it) + of_words(shares[0]))
    assert not hits, hits
    kept = scan(screen.pid, of_value(shares[0]))
    locked = locked_mappings(screen.pid)
    assert kept and all(where.split()[0] in locked for where, _ in kept), kept
    screen.line(" ".join(shares[1][22:]))
    assert screen.end() == 0, screen.text


def test_after_the_shares_of_a_restore_were_joined(fault_installation):
    """Stopped before its commit, with the key in the token already: nothing is left of shares, backup
    secret and wrapping key."""
    backup = Backup(installation=fault_installation)
    it = backup.installation
    system_id = system_id_of(it)
    backup.lose_token()
    shares = [words_of(backup.share(number)) for number in (2, 3)]
    screen = begin_restore(it, backup, {"SSO_HSM_FAULT": "ceremony.store:stop"})
    for words in shares:
        give_share(screen, words)

    def is_stopped():
        screen.read(0.05)
        with open(f"/proc/{screen.pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(") ", 1)[1][0] == "T"

    wait_for(is_stopped, "it stops before its commit")
    secrets = of_secret(shares, system_id) + pin_of(it)
    for words in shares:
        secrets += of_value(words) + of_words(words)
    hits = found_anywhere(screen.pid, secrets)
    assert not hits, hits
    os.kill(screen.pid, signal.SIGCONT)
    assert screen.end() == 0, screen.text
