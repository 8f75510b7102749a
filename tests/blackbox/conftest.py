import grp
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from installation import FAULT_PREFIX, Installation, Token, random_name


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes more than a few seconds")


# What takes longest begins first: files go to the processes of a run one by one, and what is left at
# the end is short then.
LONGEST_FIRST = ["test_rotation_kill.py", "test_destroy.py", "test_damage.py", "test_service.py",
                 "test_ceremony.py", "test_postgresql.py", "test_rotation.py", "test_init.py", "test_backup.py",
                 "test_cli.py", "test_faulty_token.py", "test_key.py", "test_doctor.py",
                 "test_tokens.py", "test_workers.py"]


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def no_sanitizer_report():
    """Programs built with a sanitizer write what they find to log_path; any of it fails the test."""
    yield
    options = os.environ.get("ASAN_OPTIONS", "")
    for option in options.split(":"):
        if option.startswith("log_path="):
            base = Path(option.removeprefix("log_path="))
            reports = list(base.parent.glob(base.name + "*"))
            text = "\n".join(report.read_text(errors="replace")[:8000] for report in reports)
            for report in reports:
                report.unlink()
            assert not reports, text


@pytest.fixture
def make_installation():
    """Installations that are gone at the end of the test."""
    made = []

    def make(**settings):
        made.append(Installation(**settings))
        return made[-1]

    yield make
    for installation in made:
        installation.kill()
    for installation in made:
        installation.close()


@pytest.fixture
def blank(make_installation):
    """Configured, but without init."""
    return make_installation()


@pytest.fixture
def initialised(blank):
    blank.init()
    return blank


@pytest.fixture
def running(initialised):
    """init done, the custodian serves, application `app` with fields user and password."""
    initialised.start()
    initialised.create_app()
    return initialised


@pytest.fixture(scope="module")
def shared():
    """As `running`, one for all tests of a file that leave it as it was."""
    installation = Installation()
    try:
        installation.init()
        installation.start()
        installation.create_app()
        yield installation
    finally:
        installation.close()


@pytest.fixture
def fault_installation(make_installation):
    """The programs that were built with fault points."""
    if not FAULT_PREFIX:
        pytest.skip("SSO_HSM_FAULT_PREFIX: no build with fault points")
    return make_installation(prefix=FAULT_PREFIX)


@pytest.fixture
def token(tmp_path):
    return Token(tmp_path / "softhsm")


class People:
    """Throw-away users and groups; their names are random, so that none of the machine's is met."""

    def __init__(self):
        self.users, self.groups = [], []

    def group(self, purpose):
        name = random_name(f"ssot-{purpose[:12]}-")
        subprocess.run(["groupadd", name], check=True)
        self.groups.append(name)
        return name

    def user(self, *groups):
        name = random_name("ssot-u-")
        subprocess.run(["useradd", "--no-create-home", "--no-user-group", "--gid", "nogroup",
                        "--shell", "/usr/sbin/nologin",
                        *(["--groups", ",".join(groups)] if groups else []), name], check=True,
                       capture_output=True)
        self.users.append(name)
        return pwd.getpwnam(name)

    def close(self):
        for name in self.users:
            subprocess.run(["userdel", name], check=False, capture_output=True)
        for name in self.groups:
            subprocess.run(["groupdel", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def people():
    if os.geteuid() != 0:
        pytest.skip("needs root: makes users and groups")
    made = People()
    try:
        grp.getgrnam("nogroup")
        yield made
    finally:
        made.close()
