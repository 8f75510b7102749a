"""Where a PIN comes from besides a file: a systemd credential, and somebody at the terminal."""

import os
import subprocess

import pytest

from faulty import FaultyToken
from installation import wait_for
from screens import Screen
from tokens import write_pin_file

NAME = "hsm-pin"


def use(installation, source):
    installation.write_config(hsm={
        "token": f"pkcs11:token={installation.token.label}?pin-source={source}"})


class Credentials:
    """What systemd does for a unit with LoadCredential=: a folder with a file, new at each start."""

    def __init__(self, monkeypatch, folder):
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))

    def load(self, pin, mode=0o400):
        write_pin_file(self.folder / NAME, pin)
        (self.folder / NAME).chmod(mode)


@pytest.fixture
def credentials(monkeypatch, tmp_path):
    return Credentials(monkeypatch, tmp_path / "credentials")


@pytest.mark.parametrize("source", [f"credential:{NAME}", f"credential%3a{NAME}"])
def test_a_credential(blank, credentials, source):
    use(blank, source)
    credentials.load(blank.token.pin + "\n")
    blank.init()
    blank.start()
    blank.create_app()
    blank.put("app", "anna", "by a credential", status=201)
    assert blank.password("app", "anna") == "by a credential"
    # A worker that comes later has it too, and nothing of it stands in an environment.
    for pid in blank.worker_pids():
        with open(f"/proc/{pid}/environ", "rb") as environ:
            assert b"CREDENTIALS" not in environ.read()
        os.kill(pid, 9)
    wait_for(lambda: blank.look_up("app", "anna").status == 200, "new workers serve")


def test_a_credential_that_is_not_there_or_open_to_others(blank, credentials, monkeypatch):
    use(blank, f"credential:{NAME}")

    def refused():
        problem = blank.sso("init", "--no-backup", check=1).problem
        assert problem["code"] == "config_error" and NAME in problem["detail"], problem
        return problem["detail"]

    assert "No such file" in refused()
    credentials.load(blank.token.pin, mode=0o444)
    assert "0400" in refused()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "LoadCredential" in refused()
    checks = {check["id"]: check for check in blank.sso("doctor", check=3).json["checks"]}
    assert checks["pin"]["result"] == "FAIL", checks["pin"]
    use(blank, "credential:../pin")
    assert blank.sso("init", "--no-backup", check=1).problem["code"] == "config_error"


def test_a_refused_credential_is_tried_once(blank, credentials):
    """Every start of a unit makes the file anew: that is no change of the PIN."""
    use(blank, f"credential:{NAME}")
    credentials.load(blank.token.pin)
    faulty = FaultyToken(blank)
    blank.init()
    before = faulty.logins()
    right = blank.token.pin
    wrong = "x" * len(right)
    for _ in range(3):
        credentials.load(wrong)
        blank.start(wait=None)
        wait_for(lambda: blank.look_up("app", "anna").code == "pin_refused", "it is refused")
        blank.stop()
    assert faulty.logins() == before + 1
    credentials.load(right)
    blank.sso("pin", "reset", check=0)
    blank.start()
    assert blank.api("GET", "/v1/health").json["encrypt"] is True


def typed_at_terminal(installation, pin, *command):
    screen = Screen(installation.command(*command, as_json=False))
    screen.wait_for(r"PIN of the token of \[hsm\]: ")
    screen.line(pin)
    code = screen.end()
    assert pin not in screen.text, "no echo"
    return code, screen.text


def test_a_prompt(blank):
    use(blank, "prompt:")
    faulty = FaultyToken(blank)
    code, text = typed_at_terminal(blank, "wrong-pin", "init", "--no-backup")
    assert code == 1 and "pin_refused" in text and faulty.logins() == 1
    # Typing it anew is another source. However many workers it takes, it is asked for once.
    code, text = typed_at_terminal(blank, blank.token.pin, "init", "--no-backup")
    assert code == 0 and text.count("PIN of the token") == 1, text
    code, text = typed_at_terminal(blank, blank.token.pin, "key", "show")
    assert code == 0, text


def test_a_prompt_that_is_interrupted(blank):
    use(blank, "prompt:")
    faulty = FaultyToken(blank)
    screen = Screen(blank.command("init", "--no-backup", as_json=False))
    screen.wait_for("PIN of the token")
    screen.interrupt()
    assert screen.end() != 0 and faulty.logins() == 0
    wait_for(lambda: not blank.processes_left(), "nothing waits for the PIN any more")


def test_a_prompt_without_a_terminal(blank):
    use(blank, "prompt:")
    done = subprocess.run(blank.command("init", "--no-backup"), capture_output=True, check=False,
                          start_new_session=True, stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == 1 and "config_error" in done.stderr and "terminal" in done.stderr
