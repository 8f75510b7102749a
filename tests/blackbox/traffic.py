"""A process that uses one installation while something else happens to it. It keeps a record of
every write that was acknowledged, durable before the write counts.

    traffic.py SOCKET JOURNAL SEED [READS]    until SIGTERM

Each line of the journal is one JSON object: {"intent": {principal: password or null}} before the
request is sent, {"ack": principal} when it was answered with success. What had an intent and no
acknowledgement when the custodian died may be either; everything else must be as recorded.
READS, from 0 to 1, is the share of requests that look up instead; a lookup that finds what cannot
be is {"wrong": [principal, found, allowed]}, and {"reads": N} at the end tells how many there were.
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


class Record:
    """What each principal must be, and what it may be besides."""

    def __init__(self):
        self.must, self.may, self.acknowledged, self.reads, self.wrong = {}, {}, 0, 0, []

    def take(self, entry):
        if "intent" in entry:
            [(principal, password)] = entry["intent"].items()
            self.may.setdefault(principal, []).append(password)
        elif "ack" in entry:
            principal = entry["ack"]
            self.must[principal] = self.may[principal][-1]
            self.may[principal] = []
            self.acknowledged += 1
        elif "wrong" in entry:
            self.wrong.append(entry["wrong"])
        else:
            self.reads += entry["reads"]

    def allowed(self, principal):
        return [self.must.get(principal), *self.may.get(principal, [])]


def look_up(connection, principal, record):
    """1 where it was answered; an answer that cannot be right goes into the record."""
    reply = connection.call("POST", "/v1/lookup", {"app": APP, "principal": principal})
    if reply.status == 429 or reply.status >= 500 and reply.code not in ("row_corrupt", "policy_tampered", "internal"):
        return 0
    found = None
    if reply.status != 404:
        found = reply.json["fields"]["password"] if reply.status == 200 else repr(reply)
    if found not in record.allowed(principal):
        record.take({"wrong": [principal, found, record.allowed(principal)]})
    return 1


def main(path, journal_path, seed, reads="0"):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    rng = random.Random(int(seed))
    journal, record = Journal(journal_path), Record()
    # A request that was given up while the custodian lives could still be done, later.
    connection = Connection(path, timeout=600)
    count = looked_up = 0

    def note(entry):
        journal.write(entry)
        record.take(entry)

    while not stop:
        count += 1
        principal = f"w{seed}-{rng.randrange(PRINCIPALS):04d}"
        try:
            if rng.random() < float(reads):
                looked_up += look_up(connection, principal, record)
                continue
            password = None if rng.random() < 0.3 else f"{principal}#{count}"
            note({"intent": {principal: password}})
            if send(connection, principal, password):
                note({"ack": principal})
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(0.02)
    for wrong in record.wrong:
        journal.write({"wrong": wrong})
    if looked_up:
        journal.write({"reads": looked_up})


def read_record(path):
    record = Record()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            record.take(json.loads(line))
    return record


def read_journal(path):
    """(what each principal must be: password or None for gone, what it may be besides, writes
    acknowledged)."""
    record = read_record(path)
    return record.must, record.may, record.acknowledged


def acknowledged(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as lines:
        return sum('"ack"' in line for line in lines)
    return 0


def compare(journal, found):
    """What is wrong in `found`, a dict of principal and password, or was found wrong before."""
    record = read_record(journal)
    wrong = [tuple(each) for each in record.wrong]
    for principal in record.must.keys() | record.may.keys():
        if found.get(principal) not in record.allowed(principal):
            wrong.append((principal, found.get(principal), record.allowed(principal)))
    return wrong


if __name__ == "__main__":
    main(*sys.argv[1:])
