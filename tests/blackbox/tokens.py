"""Tokens to test with. Each has `module`, `uri`, `variables` and `settings`: what an [hsm] section
says of it (installation.hsm_section)."""

import os
import subprocess
import sys
from pathlib import Path

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
SOFTOKEN = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"
HERE = Path(__file__).parent
MODULE_SOURCES = HERE.parent / "pkcs11"


def build_nss_fips_module(directory):
    out = Path(directory) / "nss-fips.so"
    flags = subprocess.run(["pkg-config", "--cflags", "p11-kit-1"], check=True, capture_output=True,
                           text=True).stdout.split()
    subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", *flags, "-o", out,
                    MODULE_SOURCES / "nss_fips_module.c", "-ldl"], check=True)
    return out


def write_pin_file(path, pin):
    """A new file each time, as an editor would write it."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(pin)
    fresh.rename(path)


class Token:
    """A private SoftHSM directory with one token."""

    module = SOFTHSM
    settings = {}  # further keys of its [hsm] section

    def __init__(self, directory, label="test", pin="1234-test-pin"):
        self.directory, self.label, self.pin = Path(directory), label, pin
        (self.directory / "tokens").mkdir(parents=True)
        self.configuration = self.directory / "softhsm2.conf"
        self.configuration.write_text(f"directories.tokendir = {self.directory}/tokens\n")
        self.pin_file = self.directory / "pin"
        self.write_pin(pin)
        self.add(label)

    @property
    def variables(self):
        """What its workers want in their environment."""
        return {"SOFTHSM2_CONF": str(self.configuration)}

    @property
    def environment(self):
        return {**os.environ, **self.variables}

    @property
    def uri(self):
        return f"pkcs11:token={self.label}?pin-source=file:{self.pin_file}"

    def write_pin(self, pin):
        write_pin_file(self.pin_file, pin)

    def add(self, label, pin=None):
        subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin",
                        "so-pin-1234", "--pin", pin or self.pin], env=self.environment, check=True,
                       capture_output=True)

    def make_key(self, secret_id, label, *changes):
        """An AES-256 key as a master secret has it, but for `changes` (pkcs11_key.py)."""
        helper = Path(__file__).with_name("pkcs11_key.py")
        subprocess.run([sys.executable, helper, self.module, self.label, self.pin, secret_id, label,
                        *changes], env=self.environment, check=True)

    def pkcs11_tool(self, *arguments, check=True):
        done = subprocess.run(["pkcs11-tool", "--module", self.module, "--token-label", self.label,
                               "--login", "--pin", self.pin, *arguments], env=self.environment,
                              capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class NssToken:
    """NSS softoken with a key database of its own; with `fips` in FIPS mode, where it neither takes
    nor gives a key in the clear. It wraps keys that are not extractable, so weak_token = accept."""

    def __init__(self, directory, label="nss", pin="1234-test-pin", fips=False):
        self.directory, self.label, self.pin = Path(directory), label, pin
        self.directory.mkdir(parents=True, exist_ok=True)
        self.pin_file = self.directory / "pin"
        self.write_pin(pin)
        self.module = build_nss_fips_module(self.directory) if fips else SOFTOKEN
        # A PIN of a test needs no 10,000 rounds of PBKDF2, which every login would pay.
        self.variables = {"NSS_MAX_MP_PBE_ITERATION_COUNT": "1"}
        self.init_args = (f"configDir='sql:{self.directory}' certPrefix='' keyPrefix='' "
                          f"secmod='secmod.db' dbTokenDescription='{label}' "
                          f"FIPSTokenDescription='{label}'")
        self.settings = {"init_args": self.init_args, "weak_token": "accept"}
        if fips:  # each worker makes an RSA key of its own there, which takes a second
            self.settings["workers"] = "1"
        subprocess.run([sys.executable, HERE / "nss_pin.py", self.module, self.init_args, pin],
                       env={**os.environ, **self.variables}, check=True)

    @staticmethod
    def is_installed():
        return os.access(SOFTOKEN, os.R_OK)

    @property
    def uri(self):
        return f"pkcs11:token={self.label}?pin-source=file:{self.pin_file}"

    def write_pin(self, pin):
        write_pin_file(self.pin_file, pin)
