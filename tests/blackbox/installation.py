"""One installation of sso-hsm in a directory of its own: token, configuration, database, custodian.
Programs are the installed ones below SSO_HSM_PREFIX; nothing here looks into them."""

import contextlib
import grp
import http.client
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from tokens import NssToken, Token  # noqa: F401  (tests take them from here)

PREFIX = Path(os.environ.get("SSO_HSM_PREFIX", "/usr"))
FAULT_PREFIX = os.environ.get("SSO_HSM_FAULT_PREFIX")
SANITIZED = bool(os.environ.get("SSO_HSM_SANITIZED"))
# What a sanitizer needs to know reaches workers only through [hsm] environment.
SANITIZER_VARIABLES = ("ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS")
# Nothing depends on timing: this only bounds how long a test waits for what must come.
PATIENCE_SECONDS = 120 if SANITIZED else 60

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


def wait_for(condition, what, seconds=PATIENCE_SECONDS):
    """Returns the first true value of condition()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Result:
    """Outcome of one command."""

    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    @property
    def json(self):
        lines = self.out.splitlines()
        assert len(lines) == 1, f"not one line: {self.out!r} (error output: {self.err!r})"
        return json.loads(lines[0])

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def problem(self):
        """The problem object; it is the last line of standard error."""
        return json.loads(self.err.splitlines()[-1])

    def __repr__(self):
        return f"exit {self.code}\nout: {self.out[-3000:]}\nerr: {self.err[-3000:]}"


class Reply:
    """One answer of the API."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json.get("code") if self.body else None

    def __repr__(self):
        return f"HTTP {self.status} {self.body[:2000]!r}"


class Connection(http.client.HTTPConnection):
    """A connection over the Unix socket, made as `uid`: SO_PEERCRED keeps who connected."""

    def __init__(self, path, uid=None, timeout=PATIENCE_SECONDS):
        super().__init__("localhost", timeout=timeout)
        self.path, self.uid = str(path), uid

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Blocking: with a timeout connect(2) does not wait for a place in the queue, but fails.
        with effective_user(self.uid):
            self.sock.connect(self.path)
        self.sock.settimeout(self.timeout)

    def call(self, method, path, body=None, headers=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            return Reply(self.getresponse())
        except BaseException:
            self.close()
            raise


@contextlib.contextmanager
def effective_user(uid):
    if uid is None or uid == os.geteuid():
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def hsm_section(token, **settings):
    """What an [hsm] section must say of this token. `settings` are over the defaults."""
    environment = {name: os.environ[name] for name in SANITIZER_VARIABLES if name in os.environ}
    environment.update(token.variables)
    # A machine that does much else, or a sanitizer, makes everything slow; a test whose point is a
    # deadline sets one of its own.
    return {"module": token.module, "token": token.uri, "workers": "2", "deadline": "60s",
            "environment": ",".join(f"{name}={value}" for name, value in environment.items()),
            **token.settings, **settings}


class Installation:
    def __init__(self, token=None, prefix=None, directory=None, **settings):
        """`settings`: section={key: value}, over the defaults below."""
        self.directory = Path(directory or tempfile.mkdtemp(prefix="sso-hsm-test-"))
        self.directory.chmod(0o755)
        self.prefix = Path(prefix or PREFIX)
        self.token = token or Token(self.directory / "softhsm")
        self.config = self.directory / "custodian.conf"
        self.database = self.directory / "credentials.db"
        self.socket = self.directory / "custodian.sock"
        self.log = self.directory / "custodian.log"
        self.custodian = None
        self.settings = {
            "system": {"name": "test", "user": ME},
            "hsm": hsm_section(self.token),
            "database": {"url": f"sqlite:{self.database}"},
            "listen": {"socket": self.socket},
            "roles": {"sso_admins": MY_GROUP},
            "cluster": {"node": "node1"},
            # Nothing of a test goes to the machine's own.
            "audit": {"journal": "off"},
        }
        self.write_config(**settings)

    def write_config(self, **settings):
        for section, values in settings.items():
            self.settings.setdefault(section, {}).update(values)
        lines = []
        for section, values in self.settings.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}" for key, value in values.items() if value is not None]
        self.config.write_text("\n".join(lines) + "\n")

    # --- the tool ---
    def command(self, *arguments, as_json=True):
        return [str(self.prefix / "bin" / "sso-hsm"), "--config", str(self.config),
                *(["--json"] if as_json else []), *map(str, arguments)]

    def sso(self, *arguments, as_json=True, data=None, check=None, user=None, timeout=600):
        """Runs sso-hsm. `check`: the exit code that it must have."""
        identity = {}
        if user is not None:
            identity = {"user": user.pw_uid, "group": user.pw_gid,
                        "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid)}
        done = subprocess.run(self.command(*arguments, as_json=as_json), capture_output=True,
                              input=data.encode() if isinstance(data, str) else data or b"",
                              timeout=timeout, cwd="/", **identity)
        result = Result(done)
        assert check is None or result.code == check, f"{arguments}: {result}"
        return result

    def init(self, *arguments):
        return self.sso("init", "--no-backup", *arguments, check=0).json

    # --- the custodian ---
    def start(self, wait="encrypt", environment=None):
        """`wait`: the member of health that must be true before this returns; None: it knows by now
        why it cannot serve, or that it can."""
        assert self.custodian is None
        with open(self.log, "ab") as log:
            self.custodian = subprocess.Popen(
                [str(self.prefix / "bin" / "sso-custodian"), "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **(environment or {})}, cwd="/")

        def ready():
            code = self.custodian.poll()
            assert code is None, f"the custodian ended with {code}: {self.log_text()}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                if wait is not None:
                    return self.api("GET", "/v1/health").json.get(wait)
                return b"is starting" not in self.look_up("no-such-app", "nobody").body

        try:
            wait_for(ready, "the custodian serves")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log_text()}") from None
        return self

    def stop(self):
        """SIGTERM and the exit code."""
        process, self.custodian = self.custodian, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the custodian does not end: " + self.log_text()) from None

    def kill(self):
        """kill -9, and nothing else: its workers have to notice by themselves."""
        process, self.custodian = self.custodian, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def log_text(self):
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def descendants(self):
        """(pid, name) of all processes below the custodian."""
        return descendants_of(self.custodian.pid)

    def worker_pids(self):
        """Those that are sso-hsm-worker by the program they run, not the spawner."""
        pids = []
        for pid, _ in self.descendants():
            with contextlib.suppress(OSError):
                first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
                if first.endswith(b"sso-hsm-worker"):
                    pids.append(pid)
        return pids

    # --- the API ---
    def connection(self, uid=None):
        return Connection(self.socket, uid)

    def api(self, method, path, body=None, headers=None, uid=None, status=None):
        with contextlib.closing(self.connection(uid)) as connection:
            reply = connection.call(method, path, body, headers)
        assert status is None or reply.status == status, f"{method} {path}: {reply}"
        return reply

    def create_app(self, name="app", fields=("user", "password:masked"), enable=True, **groups):
        options = [option for field in fields for option in ("--field", field)]
        groups = {"readers": MY_GROUP, **groups}
        options += [option for role, group in groups.items() if group
                    for option in (f"--{role}", group)]
        self.sso("app", "create", name, "--type", "individual", *options, check=0)
        if enable:
            self.sso("app", "enable", name, check=0)

    def put(self, app, principal, password, status=None, external_user="ext", user="u", **options):
        return self.api("PUT", credential_path(app, principal),
                        {"external_user": external_user,
                         "fields": {"user": user, "password": password}}, status=status, **options)

    def look_up(self, app, principal, **options):
        return self.api("POST", "/v1/lookup", {"app": app, "principal": principal}, **options)

    def password(self, app, principal):
        return self.look_up(app, principal, status=200).json["fields"]["password"]

    def rotation(self):
        return self.api("GET", "/v1/rotation", status=200).json

    def wait_rotation(self, *states, seconds=600):
        def arrived():
            status = self.rotation()
            return status if status["state"] in states else None
        return wait_for(arrived, f"rotation {states}", seconds)

    def fill(self, rows, app="app"):
        """Imports `rows` credentials p000000 …, with the password of password_of()."""
        lines = "".join(json.dumps({"app": app, "principal": principal_of(n), "external_user": "ext",
                                    "fields": {"user": "u", "password": password_of(n)}}) + "\n"
                        for n in range(rows))
        done = self.sso("cred", "import", "-", data=lines, check=0, timeout=max(600, rows // 100)).json
        assert done["created"] == rows and done["failed"] == 0, done

    def check_open(self):
        done = self.sso("db", "check", "--open", check=0).json
        assert done["ok"] and done["failed"] == 0 and done["opened"] == done["rows"], done
        return done

    # --- the database, as its owner could change it ---
    @contextlib.contextmanager
    def sql(self):
        connection = sqlite3.connect(self.database, timeout=60, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()

    def close(self):
        self.kill()
        wait_for(lambda: not self.processes_left(), "workers end with the custodian")
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes_left(self):
        """Processes that were started from this installation's configuration or environment."""
        marker = str(self.directory).encode()
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (entry / "comm").read_text()
                if name.startswith("sso-") and (marker in (entry / "cmdline").read_bytes() or
                                                marker in (entry / "environ").read_bytes()):
                    left.append(int(entry.name))
        return left


def descendants_of(ancestor):
    """(pid, name) of all processes below this one."""
    children = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, rest = entry.read_text().split(" (", 1)
            name, rest = rest.rsplit(") ", 1)
            children.setdefault(int(rest.split()[1]), []).append((int(pid), name))
    found, todo = [], [ancestor]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [pid for pid, _ in below]
    return found


def credential_path(app, principal=""):
    return f"/v1/apps/{quote(app, safe='')}/credentials/{quote(principal, safe='')}"


def principal_of(n):
    return f"p{n:06d}"


def password_of(n):
    return f"secret-of-{n:06d}-" + "ü" * (n % 40)


def random_name(prefix):
    return f"{prefix}{secrets.token_hex(4)}"


def stop_process(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
