"""The C library as an application's programmer meets it: header, pkg-config, the sample program."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from installation import PREFIX, SANITIZED, Installation


def pkg_config_folder():
    return next(PREFIX.glob("lib*/**/pkgconfig/sso-hsm.pc")).parent


@pytest.fixture(scope="module")
def sample():
    """Built from what is installed and nothing else, where every user can run it."""
    folder = Path(tempfile.mkdtemp(prefix="sso-hsm-sample-"))
    folder.chmod(0o755)
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "sso-hsm"], check=True, text=True,
                           capture_output=True, env={**os.environ, "PKG_CONFIG_PATH": str(pkg_config_folder())})
    program = folder / "sso-hsm-lookup"
    sanitize = ["-fsanitize=address,undefined"] if SANITIZED else []
    subprocess.run([os.environ.get("CC", "gcc"), "-Wall", "-Wextra", "-Werror", *sanitize,
                    PREFIX / "share/doc/sso-hsm/examples/sso-hsm-lookup.c", *flags.stdout.split(),
                    f"-Wl,-rpath,{pkg_config_folder().parent}", "-o", program], check=True)
    yield program
    shutil.rmtree(folder)


class House:
    def __init__(self, installation, people):
        self.it = installation
        groups = {role: people.group(role) for role in ("users", "services", "strangers")}
        self.person = {role: people.user(group) for role, group in groups.items()}
        installation.init()
        installation.start()
        installation.create_app("billing", users=groups["users"], readers=groups["services"])
        installation.create_app("mine")
        installation.put("billing", "somebody", "of somebody", status=201)


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


def run(house, sample, role, *arguments, data=None, socket=None):
    person = house.person[role]
    return subprocess.run([sample, socket or house.it.socket, *arguments], input=data, text=True,
                          capture_output=True, check=False, user=person.pw_uid, group=person.pw_gid,
                          extra_groups=os.getgrouplist(person.pw_name, person.pw_gid), cwd="/")


def test_three_people_with_three_roles(house, sample):
    me = house.person["users"].pw_name
    done = run(house, sample, "users", "billing", me, "set", data="geheim-ü\n")
    assert done.returncode == 0, done
    assert f"{me} is {me} over there, with a password of 9 bytes, version 1" in done.stdout
    assert "geheim" not in done.stdout + done.stderr
    stored = house.it.look_up("billing", me, uid=house.person["services"].pw_uid).json
    assert stored["fields"] == {"user": me, "password": "geheim-ü"}
    own = run(house, sample, "users", "billing")
    assert own.returncode == 0 and "version 1" in own.stdout
    service = run(house, sample, "services", "billing", "somebody")
    assert service.returncode == 0 and "password of 11 bytes" in service.stdout
    for role, arguments in (("users", ["billing", "somebody"]), ("strangers", ["billing"]),
                            ("services", ["billing", "somebody", "set"])):
        refused = run(house, sample, role, *arguments, data="x\n")
        assert refused.returncode == 1 and refused.stderr.startswith("forbidden: "), (role, refused)


def test_nobody_at_the_socket(house, sample):
    done = run(house, sample, "users", "billing", socket="/nonexistent/socket")
    assert done.returncode == 1 and done.stderr.startswith("service_unavailable: ")


def test_only_what_the_header_declares_is_exported():
    library = next(pkg_config_folder().parent.glob("libsso-hsm.so"))
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True,
                             text=True).stdout.split("\n")
    names = {line.split()[-1].split("@")[0] for line in symbols if " T " in line}
    header = (PREFIX / "include/sso-hsm.h").read_text()
    assert names and all(name.startswith("sso_hsm_") and name in header for name in names), names


@pytest.mark.skipif(SANITIZED, reason="its shadow memory and quarantine keep what was freed")
def test_nothing_is_left_behind(house, tmp_path):
    """A program that looks up, frees, and lets its memory be searched for what it got."""
    source = tmp_path / "probe.c"
    source.write_text(r'''
#include <sso-hsm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sso_hsm *hsm = NULL;
    struct sso_hsm_credential *credential = NULL;
    struct sso_hsm_error error;
    if (argc != 3 || sso_hsm_open(argv[1], &hsm, &error) != SSO_HSM_OK ||
        sso_hsm_lookup(hsm, "mine", argv[2], 0, &credential, &error) != SSO_HSM_OK)
        return 1;
    for (int kept = 1; kept >= 0; kept--) {
        puts("look");
        fflush(stdout);
        getchar();
        if (kept)
            sso_hsm_credential_free(&credential);
    }
    sso_hsm_close(&hsm);
    return 0;
}
''')
    program = tmp_path / "probe"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "sso-hsm"], check=True, text=True,
                           capture_output=True, env={**os.environ, "PKG_CONFIG_PATH": str(pkg_config_folder())})
    subprocess.run(["gcc", source, *flags.stdout.split(), f"-Wl,-rpath,{pkg_config_folder().parent}",
                    "-o", program], check=True)
    secret = "a-Needle-of-its-own-7391"
    house.it.put("mine", "needle", secret, status=201)
    process = subprocess.Popen([program, house.it.socket, "needle"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)

    def found():
        assert process.stdout.readline() == b"look\n"
        total = 0
        with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps, \
                open(f"/proc/{process.pid}/mem", "rb") as memory:
            for line in maps:
                span, rights = line.split()[:2]
                if not rights.startswith("rw") or "[v" in line:
                    continue
                start, end = (int(each, 16) for each in span.split("-"))
                memory.seek(start)
                total += memory.read(end - start).count(secret.encode())
        process.stdin.write(b"\n")
        process.stdin.flush()
        return total

    held, left = found(), found()
    assert process.wait(60) == 0
    assert held >= 1 and left == 0, (held, left)
