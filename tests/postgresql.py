#!/usr/bin/env -S /usr/bin/python3 -B
"""A PostgreSQL server for tests: postgresql.py [NAME=VALUE …] (settings) starts one in a folder of
its own, on a Unix socket, as a user who is not root, and prints the folder of the socket. It obeys
words on its standard input, one a line, each answered with "ok": stop, start, restart, kill (the
server at once, as by a power cut), freeze, thaw. At the end of its input, so also when the test dies,
server and folder are gone. Exit 77 where PostgreSQL is not installed."""
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = {
    "listen_addresses": "''", "max_connections": "100", "shared_buffers": "16MB",
    "fsync": "off",  # nothing is measured here, and no power is cut
    "synchronous_commit": "on", "log_min_messages": "warning", "wal_level": "replica",
    "autovacuum_naptime": "10min",
}


def programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"),
                   key=lambda file: int(file.parent.parent.name))
    return found[-1].parent if found else None


def server_user():
    """Who runs it: ourselves, or where we are root whom PostgreSQL takes."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class Server:
    def __init__(self):
        self.bin = programs()
        self.user = server_user()
        self.folder = Path(tempfile.mkdtemp(prefix="sso-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self.data = self.folder / "data"
        self.process = None

    def make(self, settings):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                 "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        with (self.data / "postgresql.conf").open("a") as file:
            for name, value in {**SETTINGS, "unix_socket_directories": f"'{self.folder}'",
                                **dict(setting.split("=", 1) for setting in settings)}.items():
                file.write(f"{name} = {value}\n")

    def become(self):
        if self.user:
            os.setgroups([])
            os.setgid(self.user.pw_gid)
            os.setuid(self.user.pw_uid)

    def run(self, program, *arguments):
        subprocess.run([self.bin / program, *map(str, arguments)], check=True, cwd="/",
                       stdout=subprocess.DEVNULL, preexec_fn=self.become,
                       env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})

    def start(self):
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([self.bin / "postgres", "-D", self.data], cwd="/",
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=self.become,
                                        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        for _ in range(600):
            ready = subprocess.run([self.bin / "pg_isready", "-q", "-h", self.folder], check=False)
            if ready.returncode == 0:
                return
            if self.process.poll() is not None:
                break
            subprocess.run(["sleep", "0.1"], check=True)
        sys.exit("the server did not start:\n" + (self.folder / "log").read_text())

    def stop(self, number=signal.SIGINT):
        """SIGINT: ends all sessions; SIGQUIT: without writing anything down."""
        if self.process:
            self.process.send_signal(number)
            self.process.wait()
        self.process = None

    def family(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def signal_all(self, number):
        for process in self.family():
            os.kill(process, number)

    def obey(self, word):
        if word == "stop":
            self.stop()
        elif word == "start":
            self.start()
        elif word == "restart":
            self.stop()
            self.start()
        elif word == "kill":
            self.stop(signal.SIGQUIT)
        elif word == "freeze":
            self.signal_all(signal.SIGSTOP)
        elif word == "thaw":
            self.signal_all(signal.SIGCONT)
        else:
            sys.exit(f"{word}: no such word")

    def remove(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    if programs() is None:
        print("PostgreSQL is not installed", file=sys.stderr)
        sys.exit(77)
    # Who tests may be interrupted at the terminal; the end of the input is what ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # by way of `finally`
    server = Server()
    try:
        server.make(sys.argv[1:])
        server.start()
        print(server.folder, flush=True)
        for line in sys.stdin:
            server.obey(line.strip())
            print("ok", flush=True)
    finally:
        server.remove()


main()
