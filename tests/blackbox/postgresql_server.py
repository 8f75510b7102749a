"""A PostgreSQL server for the tests of one file (tests/postgresql.py), and SQL as its owner."""
import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent.parent / "postgresql.py"


class Server:
    def __init__(self, *settings):
        self.process = subprocess.Popen([PROGRAM, *settings], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.folder = self.process.stdout.readline().strip()
        self.made = 0
        if not self.folder and self.process.wait() == 77:
            pytest.skip("PostgreSQL is not installed")
        assert self.folder

    def obey(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "ok"

    def psql(self, statement, user="postgres", **options):
        return subprocess.run(["psql", "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", self.folder,
                               "-U", user, "-d", "postgres", "-c", statement],
                              capture_output=True, text=True, check=False, cwd="/", **options)

    def sql(self, statement, schema="public"):
        """Rows as lists of text."""
        done = self.psql(statement, env={**os.environ, "PGOPTIONS": f"-csearch_path={schema}"})
        assert done.returncode == 0, f"{statement}: {done.stderr}"
        return [line.split("\t") for line in done.stdout.splitlines()]

    def make_schema(self):
        """To the store it is a database of its own, and it is made in no time."""
        self.made += 1
        self.sql(f"CREATE SCHEMA sso{self.made}")
        return f"sso{self.made}"

    def url(self, schema, user="postgres"):
        return (f"postgresql:///postgres?host={self.folder}&user={user}"
                f"&options=-csearch_path%3D{schema}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
