"""A process that uses one installation while something else happens to it. It keeps a record of
every write that was acknowledged, durable before the write counts.

    traffic.py SOCKET JOURNAL SEED    until SIGTERM

Each line of the journal is one JSON object: {"intent": {principal: password or null}} before the
request is sent, {"ack": principal} when it was answered with success. What had an intent and no
acknowledgement when the custodian died may be either; everything else must be as recorded.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import sys
import time

from installation import Connection, credential_path

APP = "app"
PRINCIPALS = 400


class Journal:
    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")

    def write(self, entry):
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def send(connection, principal, password):
    if password is None:
        reply = connection.call("DELETE", credential_path(APP, principal))
        return reply.status in (204, 404)
    reply = connection.call("PUT", credential_path(APP, principal),
                            {"external_user": "w", "fields": {"user": "w", "password": password}})
    return reply.status in (200, 201)


def main(path, journal_path, seed):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    rng = random.Random(int(seed))
    journal = Journal(journal_path)
    connection = Connection(path, timeout=30)
    count = 0
    while not stop:
        count += 1
        principal = f"w{seed}-{rng.randrange(PRINCIPALS):04d}"
        password = None if rng.random() < 0.3 else f"{principal}#{count}"
        journal.write({"intent": {principal: password}})
        try:
            if send(connection, principal, password):
                journal.write({"ack": principal})
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(0.02)


def read_journal(path):
    """(what each principal must be: password or None for gone, what it may be besides, writes
    acknowledged)."""
    must, may, acknowledged = {}, {}, 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if "intent" in entry:
                [(principal, password)] = entry["intent"].items()
                may.setdefault(principal, []).append(password)
            else:
                principal = entry["ack"]
                must[principal] = may[principal][-1]
                may[principal] = []
                acknowledged += 1
    return must, may, acknowledged


def acknowledged(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as lines:
        return sum('"ack"' in line for line in lines)
    return 0


def compare(journal, found):
    """What is wrong in `found`, a dict of principal and password."""
    must, may, _ = read_journal(journal)
    wrong = []
    for principal in must.keys() | may.keys():
        allowed = [must.get(principal), *may.get(principal, [])]
        if found.get(principal) not in allowed:
            wrong.append((principal, found.get(principal), allowed))
    return wrong


if __name__ == "__main__":
    main(*sys.argv[1:])
