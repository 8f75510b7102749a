"""The faulty token for black-box tests: the module of tests/pkcs11/faulty around a real token. Its
control file and its log are described in tests/pkcs11/faulty/faulty.h.

    token = FaultyToken(installation)          before init or start
    token.control("C_UnwrapKey at 3 return CKR_DEVICE_ERROR", "sessions 2")
    token.control()                            a faultless token again
    token.count("C_Login"), token.calls(), token.fired()
"""

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "pkcs11" / "faulty"


@functools.cache
def module():
    """Built once a run, without sanitizers, so that every worker can load it."""
    folder = tempfile.TemporaryDirectory(prefix="sso-hsm-faulty-")
    path = Path(folder.name) / "faulty-module.so"
    flags = subprocess.run(["pkg-config", "--cflags", "p11-kit-1"], check=True, capture_output=True,
                           text=True).stdout.split()
    subprocess.run(["cc", "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", *flags, "-o", path,
                    *sorted(SOURCE.glob("*.c")), "-ldl", "-pthread"], check=True)
    path.parent.chmod(0o755)
    path.chmod(0o755)
    return path, folder  # the folder goes with the last of the two


@dataclass
class Call:
    """One line of the log."""

    microseconds: int
    pid: int
    function: str
    session: int
    objects: tuple
    result: str  # "0x0", "hangs", "crashes"
    fault: bool
    stale: bool
    attributes: dict  # type: number, None for what is longer; of C_GetAttributeValue the length, -1
    public: dict      # the same of the public half of a pair
    made: tuple       # handles that came out


def read_attributes(text):
    pairs = [pair.split(":") for pair in text.split(",") if pair]
    return {int(kind, 16): None if value == "*" else int(value) for kind, value in pairs}


def read_call(line):
    words = line.split()
    values = dict(word.split("=", 1) for word in words[3:] if "=" in word)
    return Call(int(words[0]), int(words[1]), words[2], int(values["session"]),
                tuple(int(h, 16) for h in values["objects"].split(",")), values["rv"],
                "fault" in words, "stale" in words, read_attributes(values.get("attributes", "")),
                read_attributes(values.get("public", "")),
                tuple(int(h, 16) for h in values.get("made", "0,0").split(",") if h != "0"))


class FaultyToken:
    """Puts the module between an installation and its token. `section`: its [hsm …] section."""

    def __init__(self, installation, section="hsm"):
        self.folder = installation.directory / f"faulty-{section.replace(' ', '-')}"
        self.folder.mkdir(mode=0o777)
        self.folder.chmod(0o777)  # workers may be another user
        settings = installation.settings[section]
        environment = [settings.get("environment"), f"FAULTY_MODULE={settings['module']}",
                       f"FAULTY_FOLDER={self.folder}"]
        installation.write_config(**{section: {
            "module": module()[0], "environment": ",".join(filter(None, environment))}})

    def control(self, *lines, log=True):
        """What to obey from now on. Counts of calls, and fired(), begin anew; the log goes on."""
        fresh = self.folder / "control.new"
        fresh.write_text("".join(line + "\n" for line in (["log"] if log else []) + list(lines)))
        (self.folder / "fired").unlink(missing_ok=True)
        fresh.rename(self.folder / "control")

    def fired(self):
        """How often a rule has acted since the last control()."""
        return self.size("fired")

    def logins(self):
        """How often C_Login came, with or without a log."""
        return self.size("logins")

    def size(self, name):
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def calls(self, function=None):
        path = self.folder / "calls"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        calls = [read_call(line) for line in lines if line.endswith("\n")]
        return [call for call in calls if function in (None, call.function)]

    def count(self, function):
        return len(self.calls(function))

    def forget_calls(self):
        (self.folder / "calls").unlink(missing_ok=True)
