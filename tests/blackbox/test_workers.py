"""The workers: killed, stopped, hung and grown, with no failed request."""

import concurrent.futures
import contextlib
import os
import queue
import signal
import threading

import pytest

from installation import SANITIZED, password_of, principal_of, stop_process, wait_for

ROWS = 2000
CONNECTIONS = 16
KILLS = 10


class Load:
    """Batches of lookups that the cache cannot answer, on many connections at once: 16 x 200 rows
    are always in flight or queued."""

    BATCH = 200

    def __init__(self, installation):
        self.installation = installation
        self.stop = threading.Event()
        self.failures = queue.Queue()
        self.answered = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=[n]) for n in range(CONNECTIONS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, first):
        with contextlib.closing(self.installation.connection()) as connection:
            turn = first
            while not self.stop.is_set():
                turn += CONNECTIONS
                rows = [(turn * self.BATCH + n) % ROWS for n in range(self.BATCH)]
                try:
                    self.check(connection, rows)
                except Exception as error:  # a thread has nobody else to tell
                    self.failures.put(repr(error))

    def check(self, connection, rows):
        items = [{"app": "app", "principal": principal_of(n), "refresh": True} for n in rows]
        reply = connection.call("POST", "/v1/lookup", {"items": items})
        if reply.status != 200:
            self.failures.put(repr(reply))
            return
        for n, item in zip(rows, reply.json["items"], strict=True):
            if item.get("fields", {}).get("password") != password_of(n):
                self.failures.put(repr(item))
        with self.lock:
            self.answered += len(rows)


@pytest.fixture
def filled(blank):
    """A cache so small that lookups have to ask the token."""
    blank.write_config(cache={"max_entries": "16"})
    blank.init()
    blank.start()
    blank.create_app()
    blank.fill(ROWS)
    return blank


def assert_no_failure(load):
    assert load.failures.empty(), [load.failures.get() for _ in range(min(3, load.failures.qsize()))]


def workers_of(installation):
    return installation.sso("status", check=0).json["workers"]


def test_kill_9_of_workers_ten_times(filled):
    """With more than 1,000 rows in flight or queued no request fails."""
    with Load(filled) as load:
        for _ in range(KILLS):
            seen = load.answered
            wait_for(lambda seen=seen: load.answered >= seen + 1000, "load")
            # One that serves, not one that only just starts.
            wait_for(lambda: workers_of(filled)["ready"] == 2, "both workers")
            stop_process(filled.worker_pids()[0])
        wait_for(lambda seen=load.answered: load.answered >= seen + 1000, "load after the last kill")
    assert_no_failure(load)
    wait_for(lambda: workers_of(filled)["ready"] == 2, "both workers again")
    wait_for(lambda: workers_of(filled)["replaced"] >= KILLS, "as many replaced as killed")
    print(f"{KILLS} workers killed, {load.answered} rows answered, none failed; {workers_of(filled)}")


def test_kill_9_of_all_workers_at_once(filled):
    with Load(filled) as load:
        for _ in range(3):
            seen = load.answered
            wait_for(lambda seen=seen: load.answered >= seen + 1000, "load")
            for pid in filled.worker_pids():
                stop_process(pid)
        wait_for(lambda seen=load.answered: load.answered >= seen + 1000, "load after the last kill")
    assert_no_failure(load)


def test_a_hung_worker_is_replaced(make_installation):
    """SIGSTOP, as a vendor's module that waits for its network: killed at its deadline, and its
    batch goes to the other."""
    it = make_installation(hsm={"deadline": "2s"})
    it.init()
    it.start()
    it.create_app()
    it.fill(10)
    os.kill(it.worker_pids()[0], signal.SIGSTOP)

    def replaced():
        # Several at once, so that no worker is left without one.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda n: it.put("app", f"during{n}", "x"), range(8)))
        assert all(reply.status in (200, 201) for reply in replies), replies
        return it.sso("status").json["workers"]["replaced"] >= 1

    wait_for(replaced, "the hung worker is met and replaced")
    assert it.password("app", "during0") == "x"


@pytest.mark.skipif(SANITIZED, reason="a sanitized worker starts above any sensible limit")
def test_a_grown_worker_is_replaced(make_installation):
    """Every unwrap leaks in the module; past the limit a worker goes, and no request fails."""
    it = make_installation(hsm={"worker_memory_limit": "16M"}, cache={"max_entries": "16"})
    it.init()
    it.start()
    it.create_app()
    it.fill(ROWS)
    with Load(it) as load:
        wait_for(lambda: it.sso("status").json["workers"]["replaced"] > 0, "a worker is replaced")
    assert_no_failure(load)


def test_workers_end_with_the_custodian(running):
    wait_for(lambda: len(running.worker_pids()) == 2, "two workers")
    running.kill()
    wait_for(lambda: not running.processes_left(), "workers end with the custodian")


def test_one_row_that_the_token_refuses_never_fails_its_batch(filled):
    with filled.sql() as sql:
        sql.execute("UPDATE credentials SET wrapped_row_key = zeroblob(40) WHERE principal = ?",
                    [principal_of(50)])
    items = [{"app": "app", "principal": principal_of(n)} for n in range(100)]
    before = filled.sso("status").json["workers"]["replaced"]
    reply = filled.api("POST", "/v1/lookup", {"items": items}, status=200).json["items"]
    codes = [item.get("code") for item in reply]
    assert codes[50] == "row_corrupt" and codes.count(None) == 99
    assert filled.sso("status").json["workers"]["replaced"] == before, "the canary tells: not the worker"


def test_token_taken_away_and_put_back(running):
    """Recovery without a restart."""
    running.fill(10)
    tokens = running.token.directory / "tokens"
    away = running.token.directory / "away"
    tokens.rename(away)
    for pid in running.worker_pids():
        stop_process(pid)
    wait_for(lambda: running.api("GET", "/v1/health").status == 503, "health says so")
    reply = running.put("app", "anna", "x")
    assert reply.status == 503 and reply.code in ("hsm_unavailable", "token_not_found"), reply
    away.rename(tokens)
    wait_for(lambda: running.put("app", "anna", "x").status in (200, 201), "it serves again")
    assert running.password("app", "anna") == "x"
    wait_for(lambda: running.api("GET", "/v1/health").status == 200, "health says so")
