"""Two custodians on one database: one is the master, and when it dies, stops or hands over, the other is."""
import contextlib
import hashlib
import os
import signal
import sqlite3
import threading
import time

import pytest

from installation import PATIENCE_SECONDS, SANITIZED, password_of, principal_of, wait_for
from postgresql_server import Server

ROWS = 300
# Long enough for a machine that does much else, so that nobody loses it by chance.
LEASE_SECONDS = 6 if SANITIZED else 3


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


class Pair:
    """node1 and node2, on one database, in one token unless the second has its own."""

    def __init__(self, make, url=None, own_token=False, **cluster):
        self.nodes = [make(cluster={"node": "node1", **cluster})]
        self.url = url or f"sqlite:{self.nodes[0].database}"
        self.nodes.append(make(token=None if own_token else self.nodes[0].token, cluster={"node": "node2", **cluster}))
        for node in self.nodes:
            node.write_config(database={"url": self.url}, system={"state_directory": node.directory})

    def start(self, *arguments):
        first, second = self.nodes
        first.sso("init", *(arguments or ["--no-backup"]), check=0)
        first.start()
        first.create_app(enable=True, users=None)
        second.start(wait=None)
        return first, second


@pytest.fixture(params=["sqlite", "postgresql"])
def pair(request, make_installation):
    pair = None
    if request.param == "postgresql":
        server = request.getfixturevalue("server")
        name = server.make_schema()
        pair = Pair(make_installation, server.url(name), master_lease=f"{LEASE_SECONDS}s")
        pair.query = lambda sql: server.sql(sql, name)
    else:
        pair = Pair(make_installation, master_lease=f"{LEASE_SECONDS}s")

        def query(sql):
            with contextlib.closing(sqlite3.connect(pair.nodes[0].database, timeout=60)) as db:
                return [[str(value) for value in row] for row in db.execute(sql)]
        pair.query = query
    return pair


def master(node):
    return node.api("GET", "/v1/master", status=200).json


def is_master(node):
    with contextlib.suppress(OSError):
        return master(node)["here"]
    return False


def wait_master(node):
    return wait_for(lambda: is_master(node), "the node becomes the master")


def wait_standby(node):
    """The master has seen that the other lives and is able."""
    return wait_for(lambda: len(master(node)["able"]) == 2, "the other node is able")


class Watch:
    """Asks both nodes every 50 ms whether they are the master; keeps what must never be seen."""

    def __init__(self, nodes):
        self.nodes, self.both, self.rounds, self.going = nodes, 0, 0, True
        self.thread = threading.Thread(target=self.run)

    def run(self):
        first, second = self.nodes
        while self.going:
            # Not at one instant: the first is asked before and after the second.
            self.both += is_master(first) and is_master(second) and is_master(first)
            self.rounds += 1
            time.sleep(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.thread.join()


class Writer:
    """One principal, written again and again on whichever node takes it; and what went wrong."""

    def __init__(self, nodes):
        self.nodes, self.acknowledged, self.refused, self.strange = nodes, 0, 0, []
        self.going = True
        self.thread = threading.Thread(target=self.run)

    def write(self, node, number):
        try:
            reply = node.put("app", "counter", f"value-{number}")
        except OSError:
            return False
        if reply.status in (200, 201):
            self.acknowledged = number
            return True
        self.refused += 1
        if reply.code not in ("master_unavailable", "database_unavailable"):
            self.strange.append(repr(reply))
        return False

    def run(self):
        number, at = 1, 0
        while self.going:
            if self.write(self.nodes[at], number):
                number += 1
            else:
                at = 1 - at
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.thread.join()


def versions(pair, node):
    """Versions of the counter that the node wrote, from the audit."""
    return [int(row[0]) for row in pair.query(
        f"SELECT row_version FROM audit WHERE node = '{node}' AND outcome = 'ok' AND"
        " operation = 'credential.set' AND target = 'app/counter' ORDER BY row_version")]


def look_up_until_ok(node, principal):
    return wait_for(lambda: (reply := node.look_up("app", principal)).status == 200 and reply,
                    "the lookup is answered").json


def test_kill_of_the_master_under_load(pair):
    first, second = pair.start()
    wait_standby(first)
    with Watch(pair.nodes) as watch, Writer(pair.nodes) as writer:
        wait_for(lambda: writer.acknowledged >= 20, "writes go on")
        first.kill()
        wait_master(second)
        before = writer.acknowledged
        wait_for(lambda: writer.acknowledged >= before + 20, "writes go on at the other node")
    assert writer.strange == [] and watch.both == 0 and watch.rounds > 0
    found = look_up_until_ok(second, "counter")
    # What was sent and not acknowledged may be there too.
    number = int(found["fields"]["password"].removeprefix("value-"))
    assert number in (writer.acknowledged, writer.acknowledged + 1)
    assert max(versions(pair, "node1")) < min(versions(pair, "node2"))
    assert second.sso("audit", "verify", check=0)
    assert second.sso("status", check=0).json["master"] == {"node": "node2", "epoch": 2}
    assert "event=\"master_taken\"" in second.log_text()

    # The former master is back, and stands by.
    first.start(wait=None)
    assert first.put("app", "counter", "x").code == "master_unavailable"
    assert first.api("GET", "/v1/health").json["role"] == "sso_server"
    wait_standby(second)
    assert master(first)["node"] == "node2"
    second.check_open()


def credentials(pair):
    rows = pair.query("SELECT row_id, generation, wrapped_row_key, version FROM credentials ORDER BY row_id")
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def last_number(pair, node):
    return int(pair.query(f"SELECT max(number) FROM audit WHERE node = '{node}'")[0][0])


def has_event(node, name):
    events = node.api("GET", "/v1/health").json["events"]
    return next((event["text"] for event in events if event["name"] == name), None)


def stop_until_taken(first, second):
    """Stops the master until the other has taken over. SQLite's write lock cannot be taken from a
    stopped process: then the other names it, and this tries again."""
    while True:
        os.kill(first.custodian.pid, signal.SIGSTOP)
        locked = wait_for(lambda: "taken" if is_master(second) else has_event(second, "database_locked"),
                          "the other takes over, or says what holds it up")
        if locked == "taken":
            return
        assert f"process {first.custodian.pid} (sso-custodian)" in locked
        os.kill(first.custodian.pid, signal.SIGCONT)
        wait_for(lambda: not has_event(second, "database_locked"), "the lock is free")


class Asked:
    """A request to a process that is stopped: answered when it goes on."""

    def __init__(self, ask):
        self.reply = None
        self.thread = threading.Thread(target=lambda: setattr(self, "reply", ask()))
        self.thread.start()

    def answer(self):
        self.thread.join(PATIENCE_SECONDS)
        return self.reply


def test_stopped_master_wakes_up(pair):
    first, second = pair.start()
    first.fill(ROWS)
    first.kill()  # its cache is empty now
    first.start()
    wait_standby(first)
    first.sso("rotate", "--no-backup", "--rate", "40", "--detach", check=0)
    wait_for(lambda: first.rotation()["done"] > 0, "the rotation moves rows")
    stop_until_taken(first, second)
    try:
        second.sso("rotate", "rate", "0", check=0)
        done = second.wait_rotation("completed")
        assert done["failed"] == 0
        assert pair.query("SELECT DISTINCT generation FROM credentials") == [["2"]]
        asked = [Asked(lambda: first.look_up("app", principal_of(7))),
                 Asked(lambda: first.put("app", principal_of(8), "stale"))]
        was, number = credentials(pair), last_number(pair, "node1")
    finally:
        os.kill(first.custodian.pid, signal.SIGCONT)
    assert [one.answer().code for one in asked] == ["master_unavailable"] * 2
    wait_for(lambda: "master.lost" in str(pair.query(
        f"SELECT operation FROM audit WHERE node = 'node1' AND number > {number}")), "it says why")
    # It changed no row and handed nothing out after its epoch.
    assert credentials(pair) == was
    after = pair.query(f"SELECT operation, outcome FROM audit WHERE node = 'node1' AND number > {number}")
    assert {outcome for operation, outcome in after if operation.startswith("credential")} == {"master_unavailable"}
    lost = pair.query("SELECT target FROM audit WHERE node = 'node1' AND operation = 'master.lost'")
    assert "node2" in lost[-1][0] and "not renewed in time" in lost[-1][0]
    assert "event=\"master_taken\"" in first.log_text()
    assert first.api("GET", "/v1/health").json["role"] == "sso_server"
    assert second.password("app", principal_of(8)) == password_of(8)
    assert second.check_open()["rows"] == ROWS
    assert second.sso("audit", "verify", check=0)


def test_planned_move_under_load(pair):
    first, second = pair.start()
    for principal in ("alice", "counter"):
        first.put("app", principal, "pw", status=201)
    wait_standby(first)
    failed = []

    def look_up(writer):
        while writer.going:
            reply = first.look_up("app", "alice")  # in the cache of the first, whoever is the master
            if reply.status != 200:
                failed.append(repr(reply))

    with Watch(pair.nodes) as watch, Writer(pair.nodes) as writer:
        reader = threading.Thread(target=look_up, args=(writer,))
        reader.start()
        wait_for(lambda: writer.acknowledged > 5, "writes go on")
        for source, target in ((first, second), (second, first)):
            name = target.settings["cluster"]["node"]
            moved = source.sso("master", "move", name, check=0).json
            assert moved["node"] == name
            assert is_master(target) and not is_master(source)
            before = writer.acknowledged
            wait_for(lambda: writer.acknowledged > before + 5, "writes go on")
            wait_standby(target)
        writer.going = False
        reader.join()
    assert failed == [] and writer.strange == [] and watch.both == 0
    assert int(first.password("app", "counter").removeprefix("value-")) >= writer.acknowledged
    operations = {row[0] for row in pair.query("SELECT operation FROM audit WHERE outcome = 'ok'")}
    assert {"master.move", "master.taken"} <= operations
    refused = first.sso("master", "move", "node1")
    assert refused.code == 1 and refused.problem["code"] == "bad_request"
    assert first.sso("master", "move", "nobody").problem["code"] == "not_found"
    refused = second.sso("master", "move", "node1")
    assert refused.code == 5 and "node1" in refused.problem["detail"]


def test_promote_needs_every_generation(make_installation, tmp_path):
    pair = Pair(make_installation, own_token=True, failover="manual", master_lease=f"{LEASE_SECONDS}s")
    shares, backup = tmp_path / "shares", tmp_path / "backup"
    tmp_path.chmod(0o755)
    first, second = pair.nodes
    shares.mkdir()
    first.sso("init", "--shares", "1/1", "--shares-dir", shares, "--backup", backup, check=0)
    first.start()
    first.create_app(users=None)
    first.put("app", "alice", "pw", status=201)
    second.start(wait=None)
    wait_for(lambda: master(first)["standbys"], "the other reports")
    standby = master(first)["standbys"][0]
    assert standby["node"] == "node2" and not standby["able"]
    refused = first.sso("master", "move", "node2")
    assert refused.code == 1 and "node2 cannot become the master" in refused.problem["detail"]

    assert second.sso("master", "promote").code != 0  # the other lives
    first.kill()
    lost = wait_for(lambda: has_event(second, "master_lost"), "the other node misses the master")
    assert "node1" in lost and "sso-hsm master promote" in lost
    refused = second.sso("master", "promote")
    assert refused.problem["code"] == "no_master_secret", refused
    second.sso("key", "restore", backup, "--shares-dir", shares, check=0)
    wait_for(lambda: second.sso("master", "promote").code == 0, "the key is found in the token")
    assert is_master(second)
    assert second.password("app", "alice") == "pw"
    second.put("app", "alice", "new", status=200)
    assert "node2 is the master" in second.sso("master", "show", as_json=False, check=0).out
    first.start(wait=None)
    assert first.sso("master", "promote").problem["code"] in ("in_use", "master_unavailable")
    assert first.sso("master", "show", check=0).json["node"] == "node2"


def test_missing_generation_is_named(make_installation):
    """Both hold the first generation; the second one lacks that to which rows are on the way."""
    pair = Pair(make_installation, own_token=True, failover="manual", master_lease=f"{LEASE_SECONDS}s")
    first, second = pair.nodes
    shares, backup = first.directory / "shares", first.directory / "backup"
    shares.mkdir()
    first.sso("init", "--shares", "1/1", "--shares-dir", shares, "--backup", backup, check=0)
    first.start()
    second.sso("key", "restore", backup, "--shares-dir", shares, check=0)
    first.create_app(users=None)
    first.fill(ROWS)
    second.start(wait=None)
    wait_standby(first)
    first.sso("rotate", "--no-backup", "--rate", "1", "--detach", check=0)
    wait_for(lambda: first.rotation()["phase"] == "stream", "rows are on the way")
    first.kill()
    wait_for(lambda: has_event(second, "master_lost"), "the other node misses the master")
    refused = second.sso("master", "promote")
    assert refused.problem["code"] == "no_master_secret" and "generation 2" in refused.problem["detail"], refused
    assert not is_master(second)


def test_alone_nothing_waits(make_installation):
    """With a lease of an hour: what waited for its end would not come."""
    alone = make_installation(cluster={"master_lease": "1h"})
    alone.init()
    alone.start()
    alone.create_app(users=None)
    for number in range(3):
        alone.put("app", "alice", f"pw{number}")
        alone.kill()
        alone.start()
    assert master(alone)["epoch"] == 4
    assert alone.password("app", "alice") == "pw2"
    alone.restart()
    alone.put("app", "alice", "again", status=200)
    # Another state directory is another node's, whatever it calls itself.
    alone.stop()
    with alone.sql() as db:
        db.execute("UPDATE master_lease SET instance = home, home = randomblob(16)")
    alone.start(wait=None)
    assert alone.put("app", "alice", "twin").code == "master_unavailable"


def test_who_holds_the_lock_is_named(make_installation):
    node = make_installation(cluster={"master_lease": "1s"})
    node.write_config(database={"url": f"sqlite:{node.database}?busy_timeout=200ms"})
    node.init()
    node.start()
    with node.sql() as db:
        db.execute("BEGIN IMMEDIATE")
        text = wait_for(lambda: has_event(node, "database_locked"), "the lock is noticed")
        assert f"process {os.getpid()} " in text
        assert node.api("POST", "/v1/apps", {"name": "x"}).status == 503
        db.execute("ROLLBACK")
    wait_for(lambda: not has_event(node, "database_locked"), "it is free again")
    wait_master(node)


def test_wrong_requests(make_installation):
    node = make_installation()
    node.init()
    node.start()
    for body in ({}, {"action": "take"}, {"action": "move"}, {"action": "promote", "node": "node2"}, {"action": 1}):
        assert node.api("POST", "/v1/master", body, status=400).code == "bad_request"
    assert node.sso("master", "promote", check=0).json["here"]
    assert node.sso("master", "move").code == 2
