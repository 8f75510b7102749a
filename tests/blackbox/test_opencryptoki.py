"""openCryptoki's soft token (Debian's opencryptoki 3.8), refused by name of what it lacks."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from installation import ME, MY_GROUP, PREFIX, SANITIZED

MODULE = "/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so"
STATE = "/var/lib/opencryptoki"
PIN = "87651234"

# Everything has its place compiled in: it runs in namespaces of its own, over a folder of the test.
SCRIPT = f"""
set -e
cd "$1"; shift
mkdir -p lib run lock/swtok etc system
cp -r {STATE}/. lib/
mkdir -p lib/swtok/TOK_OBJ
chgrp -R pkcs11 lib lock; chmod -R g+rwx lib lock
printf 'version opencryptoki-3.1\\nslot 0\\n{{\\nstdll = libpkcs11_sw.so\\n}}\\n' > etc/opencryptoki.conf
mount --make-rprivate /
mount --bind lib {STATE}
mount --bind etc /etc/opencryptoki
mount --bind run /run
mkdir -p /run/lock/opencryptoki
mount --bind lock /run/lock/opencryptoki
pkcsslotd
{{
    printf '87654321\\ntest\\n' | pkcsconf -I -c 0
    printf '87654321\\n76543210\\n76543210\\n' | pkcsconf -P -c 0
    printf '76543210\\n12345678\\n12345678\\n' | pkcsconf -u -c 0
    printf '12345678\\n{PIN}\\n{PIN}\\n' | pkcsconf -p -c 0
}} > pkcsconf.log 2>&1
echo ready
for command in "doctor" "init --no-backup" "init --no-backup --suite aes256-gcm"; do
    "$@" $command 2>&1 || true
    echo
done
"""


def run_in_namespaces(folder, command):
    """With the process of the namespace everything in it ends, its pkcsslotd too."""
    return subprocess.run(["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child",
                           "--mount-proc", "sh", "-c", SCRIPT, "sh", folder, *command],
                          capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.skipif(SANITIZED, reason="the leaks of openCryptoki's own libraries are not ours")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: pkcsslotd, namespaces")
@pytest.mark.skipif(not Path(MODULE).exists(), reason="no openCryptoki (opencryptoki) here")
def test_the_soft_token_is_refused_by_name_of_what_it_lacks(tmp_path):
    (tmp_path / "pin").touch(mode=0o600)
    (tmp_path / "pin").write_text(PIN)
    config = tmp_path / "custodian.conf"
    config.write_text(f"""
[system]
name = test
user = {ME}
state_directory = {tmp_path}/system
[hsm]
module = {MODULE}
token = pkcs11:token=test?pin-source=file:{tmp_path}/pin
workers = 1
deadline = 60s
[database]
url = sqlite:{tmp_path}/system/credentials.db
[listen]
socket = {tmp_path}/custodian.sock
[roles]
sso_admins = {MY_GROUP}
[cluster]
node = node1
""")
    done = run_in_namespaces(tmp_path, [PREFIX / "bin" / "sso-hsm", "--config", config, "--json"])
    if "ready\n" not in done.stdout:
        log = tmp_path / "pkcsconf.log"
        pytest.skip(f"openCryptoki does not start here: {done.stderr[-300:]}"
                    f"{log.read_text()[-300:] if log.exists() else ''}")
    doctor, kw, gcm = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    checks = {check["id"]: check for check in doctor["checks"]}
    assert doctor["result"] == "FAIL" and checks["suite.usable"]["result"] == "FAIL"
    assert checks["pin"]["result"] == "PASS", "it was reached, and logged in to"
    for check, suite in (("mechanism.aes-key-wrap", "aes256-kw"), ("mechanism.aes-gcm", "aes256-gcm")):
        assert checks[check]["result"] == "WARN" and suite in checks[check]["detail"], checks[check]
    assert kw["code"] == gcm["code"] == "token_not_suitable"
    assert "CKM_AES_KEY_WRAP" in kw["detail"] and "CKM_AES_GCM" in gcm["detail"]
