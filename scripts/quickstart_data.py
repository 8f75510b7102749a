#!/usr/bin/python3
"""What scripts/quickstart needs beside the programs: credentials to import, another process that
uses them, and the comparison at the end.

    quickstart_data.py make FILE ROWS
    quickstart_data.py lookups SOCKET INPUT COUNT
    quickstart_data.py traffic SOCKET INPUT CHANGED      until SIGTERM; figures on standard output
    quickstart_data.py report FIGURES
    quickstart_data.py compare INPUT CHANGED             with the export on standard input
"""

import http.client
import json
import random
import signal
import socket
import sys
import time
from urllib.parse import quote

APP = "payroll"
FIRST = ["Zoë", "José", "Müller", "Søren", "Łukasz", "Ioánna", "Иван", "王伟", "さくら", "علي",
         "Anna", "John", "Noël", "Çağla", "Đorđe", "Þóra", "नेहा", "ธนา", "Ana-Lucía", "O’Neil"]
LAST = ["Müller", "García", "Nguyễn", "Smith", "Østergård", "Šimůnek", "Петров", "鈴木", "Kim",
        "d’Angelo", "Ångström", "Dvořák", "Papadópoulos", "Yılmaz", "Cohen", "Sharma"]
ALPHABET = ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
            "!#$%&()*+,-./:;<=>?@[]^_{|}~ äöüßéñçøåłжщ漢字€🔑\"'\\")


def make_password(rng):
    """8 to 200 bytes of UTF-8, some of them more than one byte a character."""
    target = rng.randint(8, 200)
    text = "".join(rng.choices(ALPHABET, k=target))
    return text.encode()[:target].decode(errors="ignore").ljust(8, "x")


def make(path, rows):
    rng = random.Random(rows)
    with open(path, "w", encoding="utf-8") as out:
        for n in range(int(rows)):
            first, last = rng.choice(FIRST), rng.choice(LAST)
            line = {"app": APP, "principal": f"{first}.{last}.{n:06d}".lower(),
                    "external_user": f"{last}, {first}",
                    "fields": {"user": f"p{n:06d}", "password": make_password(rng)}}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{rows} lines in {path}: principals such as {line['principal']}, passwords of 8 to 200 bytes")


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Custodian(http.client.HTTPConnection):
    """HTTP over the Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def call(self, method, path, body):
        self.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        reply = self.getresponse()
        return reply.status, json.loads(reply.read() or b"null")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None


def figures(name, seconds):
    return {"name": name, "count": len(seconds),
            "median_ms": round(1000 * (percentile(seconds, 0.5) or 0), 2),
            "p99_ms": round(1000 * (percentile(seconds, 0.99) or 0), 2)}


def show(row):
    return f"{row['name']}: {row['count']}, median {row['median_ms']} ms, 99 % within {row['p99_ms']} ms"


class Client:
    """Looks up and changes credentials, and knows what the answer must be."""

    def __init__(self, path, lines, changed=None):
        self.custodian = Custodian(path)
        self.lines = lines
        self.expected = {line["principal"]: line["fields"]["password"] for line in lines}
        self.changed = changed
        self.rng = random.Random()
        self.lookup_seconds, self.change_seconds = [], []

    def timed(self, into, method, path, body):
        began = time.monotonic()
        status, reply = self.custodian.call(method, path, body)
        into.append(time.monotonic() - began)
        if status not in (200, 201):
            sys.exit(f"{method} {path}: {status} {reply}")
        return reply

    def look_up(self):
        line = self.rng.choice(self.lines)
        reply = self.timed(self.lookup_seconds, "POST", "/v1/lookup",
                           {"app": APP, "principal": line["principal"]})
        if reply["fields"]["password"] != self.expected[line["principal"]]:
            sys.exit(f"{line['principal']}: the password that came back is not the one stored")

    def change(self):
        line = self.rng.choice(self.lines)
        fields = {"user": line["fields"]["user"], "password": make_password(self.rng)}
        self.timed(self.change_seconds, "PUT",
                   f"/v1/apps/{APP}/credentials/{quote(line['principal'], safe='')}",
                   {"external_user": line["external_user"], "fields": fields})
        self.expected[line["principal"]] = fields["password"]
        self.changed.write(json.dumps({"principal": line["principal"], "fields": fields},
                                      ensure_ascii=False) + "\n")


def lookups(path, source, count):
    client = Client(path, read_lines(source))
    for _ in range(int(count)):
        client.look_up()
    print(show(figures("lookups, one after another", client.lookup_seconds)))


def traffic(path, source, changed_path):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with open(changed_path, "w", encoding="utf-8") as changed:
        client = Client(path, read_lines(source), changed)
        while not stop:
            for _ in range(4):
                client.look_up()
            client.change()
    json.dump([figures("lookups during the rotation", client.lookup_seconds),
               figures("changes during the rotation", client.change_seconds)], sys.stdout)


def report(path):
    with open(path, encoding="utf-8") as file:
        for row in json.load(file):
            print(show(row))
    print("none failed, and every password that came back was the right one")


def compare(source, changed_path):
    expected = {line["principal"]: line["fields"] for line in read_lines(source)}
    changed = {line["principal"]: line["fields"] for line in read_lines(changed_path)}
    expected.update(changed)
    exported = {line["principal"]: line["fields"] for line in map(json.loads, sys.stdin)}
    wrong = [name for name, fields in expected.items() if exported.get(name) != fields]
    surplus = exported.keys() - expected.keys()
    print(f"compared {len(exported)} exported credentials with the input and {len(changed)} changed"
          f" ones: {len(wrong)} differ or are missing, {len(surplus)} too many")
    if wrong or surplus:
        sys.exit(f"for instance {(wrong or list(surplus))[:3]}")


if __name__ == "__main__":
    COMMANDS = {"make": make, "lookups": lookups, "traffic": traffic, "report": report,
                "compare": compare}
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
