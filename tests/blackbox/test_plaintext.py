"""No password, row key or PIN in the clear anywhere but where it was asked for."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from installation import SANITIZED
from memory import found_in, scan

# Long and unlike anything else, so that a hit is a leak; alike at head and tail, so that a password
# of which one end was wiped is found by the other.
HEAD, TAIL = "Plaintext-Canary-", "-q7Zx9Lw2Vb4Nc8"
PASSWORDS = [f"{HEAD}{n:02d}{TAIL}" for n in range(20)]
PIN = "Pin-Canary-5tR8eW1y"


def needles():
    return [form for text in (HEAD[4:], TAIL[1:], PIN)
            for form in (text.encode(), text.encode("utf-16-le"), text.encode().hex().encode())]


def found(data):
    return found_in(data, needles())


@pytest.fixture(scope="module")
def used(shared):
    """Everything that handles credentials was done at least once."""
    it = shared
    it.token.pkcs11_tool("--change-pin", "--new-pin", PIN)
    it.token.pin = PIN
    it.stop()
    it.token.write_pin(PIN)
    it.start()
    for n, password in enumerate(PASSWORDS):
        it.put("app", f"p{n}", password, status=201)
        assert it.password("app", f"p{n}") == password
    it.sso("cred", "set", "app", "by-tool", "--stdin", check=0,
           data=json.dumps({"user": "u", "password": PASSWORDS[0]}))
    it.sso("cred", "get", "app", "by-tool", check=0)
    lines = "\n".join(json.dumps({"app": "app", "principal": f"i{n}", "external_user": "e",
                                  "fields": {"user": "u", "password": password}})
                      for n, password in enumerate(PASSWORDS))
    it.sso("cred", "import", "-", data=lines + "\nbroken " + PASSWORDS[0] + "\n", check=3)
    it.sso("cred", "export", "app", check=0)
    it.api("PUT", "/v1/apps/app/credentials/broken", b'{"fields":' + PASSWORDS[1].encode())
    it.sso("rotate", "--no-backup", check=0)
    it.sso("db", "check", "--open", check=0)
    with it.sql() as sql:
        row = sql.execute("SELECT row_id FROM credentials WHERE principal = 'p0'").fetchone()
        sql.execute("UPDATE credentials SET external_user = 'x' WHERE row_id = ?", [row[0]])
        it.look_up("app", "p0")
        sql.execute("UPDATE credentials SET external_user = 'ext' WHERE row_id = ?", [row[0]])
    return it


def test_database_logs_and_state_directory(used):
    for path in used.directory.rglob("*"):
        if path.is_file() and path != used.token.pin_file and "softhsm" not in path.parts:
            hits = found(path.read_bytes())
            assert not hits, (path, hits)
    hits = found(used.log.read_bytes())
    assert not hits


def test_errors_and_audit(used):
    texts = [used.sso("audit", "list").out, used.sso("status").out, used.sso("doctor").out,
             used.sso("cred", "import", "-", data='{"password": "' + PASSWORDS[0] + '"').err,
             used.sso("cred", "set", "app", "x", "--stdin", data=PASSWORDS[0]).err,
             used.api("GET", "/metrics").body.decode()]
    for text in texts:
        assert not found(text.encode())


def test_command_lines_and_environments(used):
    pids = [used.custodian.pid, *(pid for pid, _ in used.descendants())]
    assert len(pids) >= 3
    for pid in pids:
        for name in ("cmdline", "environ"):
            hits = found(Path(f"/proc/{pid}/{name}").read_bytes())
            assert not hits, (pid, name, hits)
    # Workers get what the configuration names, and nothing else of this environment.
    for pid in used.worker_pids():
        names = {pair.split(b"=")[0] for pair in
                 Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pair}
        allowed = {b"PATH", b"LANG", b"SOFTHSM2_CONF", b"ASAN_OPTIONS", b"LSAN_OPTIONS",
                   b"UBSAN_OPTIONS"}
        assert names <= allowed, names


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of processes that are not dumpable")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps freed memory")
def test_memory_of_idle_processes(used):
    """Two seconds after the last request nothing is left, though all of it passed through here. A
    worker keeps the PIN nowhere; the token's own module is not ours to wipe, and is not searched
    for what only it knows."""
    time.sleep(2)
    for pid in [used.custodian.pid, *(pid for pid, _ in used.descendants())]:
        hits = scan(pid, needles())
        assert not hits, (pid, Path(f"/proc/{pid}/comm").read_text(), hits)


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of another process")
def test_control_a_planted_secret_is_found():
    """The search itself works: a process that keeps a password is caught."""
    keeper = subprocess.Popen(["/usr/bin/python3", "-c", "import sys; kept = sys.stdin.readline();"
                               "print('ready', flush=True); sys.stdin.readline()"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        keeper.stdin.write(PASSWORDS[3].encode() + b"\n")
        keeper.stdin.flush()
        assert keeper.stdout.readline() == b"ready\n"
        assert scan(keeper.pid, [PASSWORDS[3].encode()])
    finally:
        keeper.kill()
        keeper.communicate()


def test_control_a_planted_secret_in_the_database_is_found(used, tmp_path):
    with used.sql() as sql:
        sql.execute("CREATE TABLE planted (text TEXT)")
        sql.execute("INSERT INTO planted VALUES (?)", [PASSWORDS[4]])
        try:
            data = used.database.read_bytes()
            wal = Path(str(used.database) + "-wal")
            assert found(data + (wal.read_bytes() if wal.exists() else b""))
        finally:
            sql.execute("PRAGMA secure_delete = ON")
            sql.execute("DROP TABLE planted")


@pytest.mark.skipif(os.geteuid() != 0, reason="reads files below /proc of processes not dumpable")
def test_processes_are_not_dumpable(used):
    for pid in [used.custodian.pid, *used.worker_pids()]:
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s", limits), "no core dumps"
        status = Path(f"/proc/{pid}/status").read_text()
        assert int(re.search(r"VmLck:\s+(\d+)", status).group(1)) > 0 or SANITIZED


def test_no_row_key_in_the_database(used, tmp_path):
    """Who holds the PIN can have the token unwrap a row key into a readable object: the bytes that
    come out are nowhere in the files."""
    with used.sql() as sql:
        rows = sql.execute("SELECT wrapped_row_key, generation FROM credentials LIMIT 3").fetchall()
    files = b"".join(path.read_bytes() for path in used.directory.glob("credentials.db*"))
    files += used.log.read_bytes()
    for number, row in enumerate(rows):
        secret_id = used.sso("key", "show", row["generation"], check=0).json["secret_id"]
        (tmp_path / "wrapped").write_bytes(row["wrapped_row_key"])
        used.token.pkcs11_tool("--unwrap", "--mechanism", "AES-KEY-WRAP", "--id", secret_id,
                               "--input-file", str(tmp_path / "wrapped"), "--key-type", "AES:",
                               "--application-id", f"ee{number:02x}", "--application-label", "out",
                               "--extractable")
        used.token.pkcs11_tool("--read-object", "--type", "secrkey", "--id", f"ee{number:02x}",
                               "--output-file", str(tmp_path / "key"))
        row_key = (tmp_path / "key").read_bytes()
        assert len(row_key) == 32
        assert row["wrapped_row_key"] in files, "the search works"
        assert row_key not in files and row_key.hex().encode() not in files


def test_length_of_a_password_does_not_show(running):
    sizes = set()
    for length in (1, 8, 16):
        running.put("app", f"l{length}", "x" * length, status=201)
        with running.sql() as sql:
            sizes.add(sql.execute("SELECT length(ciphertext) FROM credentials WHERE principal = ?",
                                  [f"l{length}"]).fetchone()[0])
    assert len(sizes) == 1 and (sizes.pop() - 16) % 64 == 0
