"""Every command: --help, misuse, --json, nobody at the socket."""

import re
import resource
import subprocess

import pytest

from installation import wait_for

COMMANDS = [
    "init", "doctor", "pin reset", "status", "key list", "key show", "key generate",
    "key retire", "key destroy", "key confirm", "rotate",
    "rotate start", "rotate status", "rotate pause", "rotate resume", "rotate cancel",
    "rotate retry-quarantined", "app create", "app list", "app show", "app update", "app enable",
    "app disable", "app delete", "app purge", "cred set", "cred get", "cred list", "cred delete",
    "cred import", "cred export", "mapping list", "mapping enable", "mapping disable",
    "mapping delete", "audit list", "audit verify", "audit export", "audit prune", "db check",
    "db backup", "db backup-info", "db upgrade", "master show", "master promote", "master move",
]
NEED_ARGUMENTS = ["master move", "audit prune", "db backup", "db backup-info", "key retire", "key destroy", "key confirm", "app create", "app show", "app update", "app enable", "app disable", "app delete",
                  "app purge", "cred set", "cred get", "cred list", "cred delete", "cred import",
                  "cred export", "mapping enable", "mapping disable", "mapping delete"]
OVER_THE_API = ["status", "key list", "rotate status", "app list", "cred list app", "cred get app anna",
                "audit list", "rotate pause", "master show", "master promote", "master move node2",
                "node list"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(blank, command):
    done = blank.sso(*command.split(), "--help", as_json=False, check=0)
    assert "sso-hsm" in done.out and command.split()[-1] in done.out and done.err == ""
    assert max(map(len, done.out.splitlines())) <= 120


def test_help_of_the_tool(blank):
    done = blank.sso("--help", as_json=False, check=0)
    for command in COMMANDS:
        assert command.split()[0] in done.out
    assert blank.sso(as_json=False).code == 2


def test_version(blank):
    assert re.search(r"\d+\.\d+", blank.sso("--version", as_json=False, check=0).out)


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option(blank, command):
    done = blank.sso(*command.split(), "--no-such-option")
    assert done.code == 2 and done.out == "" and done.problem["code"] == "usage"
    text = blank.sso(*command.split(), "--no-such-option", as_json=False)
    assert text.code == 2 and text.err.startswith("sso-hsm: usage: ")


@pytest.mark.parametrize("command", NEED_ARGUMENTS)
def test_missing_argument(blank, command):
    assert blank.sso(*command.split(), check=2).problem["code"] == "usage"


@pytest.mark.parametrize("command", COMMANDS)
def test_surplus_arguments(blank, command):
    assert blank.sso(*command.split(), *["surplus"] * 6, check=2).problem["code"] == "usage"


@pytest.mark.parametrize("command", ["nonsense", "key nonsense", "cred", "app", "key", "--nonsense"])
def test_unknown_command(blank, command):
    assert blank.sso(*command.split()).code == 2


@pytest.mark.parametrize("command", OVER_THE_API)
def test_nobody_at_the_socket(initialised, command):
    done = initialised.sso(*command.split())
    assert done.code == 5 and done.problem["code"] == "service_unavailable"
    assert str(initialised.socket) in done.problem["detail"]
    text = initialised.sso(*command.split(), as_json=False)
    assert text.code == 5 and text.err.startswith("sso-hsm: service_unavailable: ")


@pytest.mark.parametrize("command", ["status", "key list", "key show", "rotate status", "app list",
                                     "app show app", "cred list app", "audit verify", "db check",
                                     "db check --open", "doctor"])
def test_json_is_one_object_on_one_line(shared, command):
    done = shared.sso(*command.split())
    assert done.code in (0, 3) and isinstance(done.json, dict)
    assert done.out.endswith("\n")


def keys_of(value):
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from keys_of(below)
    elif isinstance(value, list):
        for below in value:
            yield from keys_of(below)


def test_json_has_what_the_interface_promises(shared):
    promised = {
        "status": ["system", "node", "version", "uptime_seconds", "health", "generation", "master",
                   "rows", "workers", "rotation", "database"],
        "rotate status": ["id", "state", "phase", "from", "to", "total", "done", "skipped", "failed",
                          "rows_per_second", "eta_seconds", "rate", "dry_run", "reencrypt",
                          "started", "finished", "error"],
        "db check --open": ["ok", "structure", "rows", "opened", "failed", "failures"],
        "audit verify": ["ok", "records", "signed_through", "findings"],
        "doctor": ["result", "checks"],
        "key show": ["number", "secret_id", "tokens", "suite", "state", "compromised", "created",
                     "backed_up", "last_drill", "share_set", "rows", "wraps", "evidence"],
    }
    for command, members in promised.items():
        reply = shared.sso(*command.split()).json
        missing = [member for member in members if member not in reply]
        assert not missing, (command, missing)
        assert all(re.fullmatch(r"[a-z0-9_]+", key) for key in keys_of(reply)), command
    status = shared.sso("status").json
    assert set(status["rows"]) >= {"total", "below_active", "quarantined"}
    assert set(status["workers"]) >= {"wanted", "ready", "sessions", "replaced"}
    assert status["database"]["kind"] == "sqlite" and status["database"]["available"] is True
    assert status["master"]["node"] == "node1"
    assert shared.sso("rotate", "status").json["state"] == "none"


def test_text_for_people(shared):
    for command in ("status", "key list", "app list", "rotate status"):
        done = shared.sso(*command.split(), as_json=False, check=0)
        assert done.out and not done.out.startswith("{") and "\x1b" not in done.out


def test_problem_as_text_and_as_object(shared):
    text = shared.sso("app", "show", "none", as_json=False, check=1)
    assert text.err.startswith("sso-hsm: not_found: ") and text.out == ""
    problem = shared.sso("app", "show", "none", check=1).problem
    assert problem["type"] == "urn:sso-hsm:not_found" and problem["status"] == 404


def test_check_of_the_daemons_configuration(blank):
    daemon = [blank.prefix / "bin" / "sso-custodian", "--config", blank.config, "--check"]
    assert subprocess.run(daemon, capture_output=True, check=False).returncode == 0
    blank.config.write_text(blank.config.read_text() + "[nonsense]\na = b\n")
    done = subprocess.run(daemon, capture_output=True, check=False, text=True)
    assert done.returncode == 1 and str(blank.config) in done.stderr


def test_output_that_cannot_be_written_is_an_error(shared):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(shared.command("status"), stdout=full, stderr=subprocess.PIPE,
                              check=False)
    assert done.returncode == 1


def test_what_an_operator_is_told(running):
    """Small things, each of which left somebody who was new to it alone."""
    it = running
    records = it.sso("audit", "export", check=0).lines
    newest = it.sso("audit", "list", "--last", "2", check=0).json["records"]
    assert len(newest) == 2 and newest[0]["number"] >= records[-1]["number"]
    assert [each["number"] for each in it.sso("audit", "list", "--last", "1000", check=0).json["records"]][:2] == [1, 2]
    it.sso("audit", "list", "--last", "2", "--after", "1", check=2)
    assert it.sso("audit", "list", "--node", "nosuch", check=1).problem["code"] == "not_found"
    refused = it.sso("settings", "set", "nosuch=1", check=1).problem
    assert "nosuch" in refused["detail"] and "settings show" in refused["detail"]
    assert "sso-hsm status" in it.sso("init", "--no-backup", check=1).problem["detail"]
    shown = it.sso("rotate", "status", "--quarantine", as_json=False, check=0).out
    assert "quarantine  empty" in shown
    overview = it.sso("--help", as_json=False, check=0).out
    assert "from files of Microsoft Enterprise SSO\n" in overview
    assert "Makes a consistent copy of the database while it is in use, and FILE\n" not in overview


def test_a_limit_on_files_is_an_error_and_not_the_end(initialised):
    """RLIMIT_FSIZE: the write is refused, the custodian goes on, and works when there is room."""
    it = initialised.start()
    it.create_app()
    resource.prlimit(it.custodian.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    reply = it.put("app", "anna", "x")
    assert reply.status == 503 and it.custodian.poll() is None, reply
    resource.prlimit(it.custodian.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    wait_for(lambda: it.put("app", "anna", "x").status in (200, 201), "it writes again")
