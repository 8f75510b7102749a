"""The service over a token that does what a control file says (faulty.py)."""

import concurrent.futures
import contextlib
import os
import signal
import threading

import pytest

from faulty import FaultyToken
from installation import SANITIZED, Token, password_of, principal_of, wait_for
from outstanding import Outstanding, raise_descriptor_limit

LONG = bool(os.environ.get("SSO_HSM_LONG"))
CONNECTIONS = 1100
KILLS = 10


def workers_of(it):
    return it.sso("status", check=0).json["workers"]


def events_raised(it, name):
    return it.log.read_text(errors="replace").count(f'message="event raised" event="{name}"')


@pytest.fixture
def make_faulty(make_installation):
    def make(**settings):
        it = make_installation(cache={"max_entries": "16"}, **settings)
        it.faulty = FaultyToken(it)
        it.faulty.control(log=False)
        it.init()
        it.start()
        it.create_app()
        return it
    return make


def serving(it):
    """Workers that have worked on a row: they are past their login. SoftHSM loses a token whose
    process is killed while it logs in."""
    done = {call.pid for call in it.faulty.calls("C_UnwrapKey") if call.result == "0x0"}
    return [pid for pid in it.worker_pids() if pid in done]


def kill_workers(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_no_search_and_no_stale_handle_on_the_request_path(make_faulty):
    """Handles are found once in a session's life; no handle of one session is used in another."""
    it = make_faulty()
    it.fill(300)
    it.faulty.control()
    items = [{"app": "app", "principal": principal_of(n), "refresh": True} for n in range(300)]
    for _ in range(3):
        it.api("POST", "/v1/lookup", {"items": items}, status=200)
    calls = it.faulty.calls()
    assert sum(call.function == "C_UnwrapKey" for call in calls) >= 300
    assert not [call for call in calls if call.function.startswith("C_FindObjects")]
    it.faulty.control("C_UnwrapKey times 3 break-session CKR_DEVICE_ERROR")
    it.api("POST", "/v1/lookup", {"items": items}, status=200)
    wait_for(lambda: it.faulty.fired(), "a session that breaks is met")
    assert not [call for call in it.faulty.calls() if call.stale]


def test_kill_9_with_a_thousand_requests_outstanding(make_faulty):
    """Ten workers killed, each with at least 1,000 requests in flight or queued: none fails."""
    if not raise_descriptor_limit(8 * CONNECTIONS):
        pytest.skip("the system allows too few descriptors")
    it = make_faulty(limits={"max_connections": "4096", "max_connections_per_peer": "4096",
                             "request_timeout": "120s"}, hsm={"deadline": "60s"})
    it.fill(500)
    load = Outstanding(it.socket, CONNECTIONS, 500)
    killed, least, delay = 0, CONNECTIONS, 1
    while killed < KILLS:
        wait_for(lambda: workers_of(it)["ready"] == 2, "both workers")
        # The first of all unwraps wait: what is behind them waits with them.
        it.faulty.control(f"C_UnwrapKey times 2 delay {delay}000000", log=False)
        load.send_all()
        wait_for(lambda: it.faulty.fired() == 2, "both workers are at work")
        outstanding = load.outstanding()
        if outstanding >= 1000:
            victims = it.worker_pids()
            assert len(victims) == 2
            kill_workers(victims)
            killed += len(victims)
            least = min(least, outstanding)
        else:
            delay *= 2  # a slow machine
        load.receive_all()
        assert not load.failures, load.failures[:3]
    load.close()
    print(f"{killed} workers killed with {least} or more requests in progress each time; "
          f"{load.answered} requests answered, {len(load.failures)} failed")


class Callers:
    """`count` callers, each with so many lookups and writes of its own rows."""

    def __init__(self, it, count, each):
        self.it, self.each, self.failures, self.done = it, each, [], 0
        self.lock = threading.Lock()
        self.pool = concurrent.futures.ThreadPoolExecutor(count)
        self.running = [self.pool.submit(self.run, n) for n in range(count)]

    def run(self, caller):
        with contextlib.closing(self.it.connection()) as connection:
            for turn in range(self.each):
                problem = self.one(connection, caller, turn)
                with self.lock:
                    self.done += 1
                    if problem is not None:
                        self.failures.append(problem)

    def one(self, connection, caller, turn):
        if turn % 3 == 0:
            reply = connection.call("PUT", f"/v1/apps/app/credentials/w{caller}",
                                    {"external_user": "w", "fields": {"user": "w",
                                                                      "password": f"{caller}#{turn}"}})
            return None if reply.status in (200, 201) else repr(reply)
        principal = f"w{caller}" if turn % 3 == 1 else principal_of(caller)
        wanted = f"{caller}#{turn - 1}" if turn % 3 == 1 else password_of(caller)
        reply = connection.call("POST", "/v1/lookup",
                                {"app": "app", "principal": principal, "refresh": True})
        if reply.status == 200 and reply.json["fields"]["password"] == wanted:
            return None
        return repr(reply)

    def finished(self):
        return all(one.done() for one in self.running)

    def end(self):
        for one in self.running:
            one.result()
        self.pool.shutdown()


def test_lookups_and_writes_while_workers_die_hang_and_starve(make_faulty):
    """200 callers over a token with two sessions, whose workers are killed and hang: no request
    fails."""
    count, each = (200, 50) if LONG else (100, 10) if SANITIZED else (200, 20)
    it = make_faulty(hsm={"deadline": "5s", "sessions_per_worker": "2"},
                     limits={"request_timeout": "120s"})
    it.fill(count)
    it.faulty.control("sessions 2", "hide-session-limit")
    lost = done = turn = 0
    callers = Callers(it, count, each)
    while not callers.finished() or lost < 3:
        if callers.finished():  # faster than workers come back: the same once more
            callers.end()
            assert not callers.failures, (len(callers.failures), callers.failures[:3])
            done += callers.done
            callers = Callers(it, count, each)
        turn += 1
        victims = wait_for(lambda: callers.finished() or serving(it), "a worker serves")
        if callers.finished():
            continue
        if turn % 3 == 0:
            it.faulty.control("sessions 2", "hide-session-limit", "C_UnwrapKey times 1 hang 600")
            wait_for(lambda: callers.finished() or it.faulty.fired(), "a call hangs")
        else:
            kill_workers(victims)
        lost += 1
        seen = callers.done
        wait_for(lambda seen=seen: callers.finished() or callers.done >= seen + count // 2,
                 "it goes on")
    callers.end()
    assert not callers.failures, (len(callers.failures), callers.failures[:3])
    assert callers.done == count * each
    done += callers.done
    # It lasts as long as the token gives so few; the service tells when it looks next. How often is
    # counted where nothing is left to chance: test_one_event_for_each_transition.
    wait_for(lambda: events_raised(it, "sessions_short") > 0, "the shortage is told")
    it.faulty.control()
    wait_for(lambda: workers_of(it)["ready"] == 2, "both workers, once the token has the sessions")
    wait_for(lambda: not is_on(it, "sessions_short"), "the shortage ends")
    print(f"{done} lookups and writes of {count} callers over 2 sessions, {lost} times killed "
          f"or hung: 0 failed")


def test_damaged_rows_cost_no_worker(make_faulty):
    """A rotation over damaged rows: just these are in quarantine, and no worker is replaced for them."""
    rows, damaged = (1_000_000, 1000) if LONG else (2000, 100)
    it = make_faulty()
    it.fill(rows)
    with it.sql() as sql:
        sql.execute("""UPDATE credentials SET wrapped_row_key =
            CAST(substr(wrapped_row_key, 1, 39) || CASE WHEN hex(substr(wrapped_row_key, 40)) = '00'
            THEN x'01' ELSE x'00' END AS BLOB) WHERE CAST(substr(principal, 2) AS INTEGER) % ? = 0""",
                    [rows // damaged])
    it.sso("rotate", "start", "--no-backup", "--detach", check=0)
    status = it.wait_rotation("completed", "completed_with_errors", "failed", seconds=3600)
    assert status["state"] == "completed_with_errors" and status["failed"] == damaged, status
    quarantine = it.api("GET", "/v1/rotation/quarantine", status=200).json
    assert len(quarantine["quarantine"]) == min(damaged, len(quarantine["quarantine"])) > 0
    log = it.log.read_text(errors="replace")
    assert "could not do a frame" not in log and events_raised(it, "worker_replaced") == 0, log[-3000:]
    assert it.password("app", principal_of(1)) == password_of(1)
    print(f"{damaged} damaged of {rows}: {status['failed']} in quarantine, no worker lost")


def transitions(it, name):
    """How often it was told that it began, and that it ended."""
    log = it.log.read_text(errors="replace")
    return tuple(log.count(f'message="event {what}" event="{name}"') for what in ("raised", "cleared"))


def is_on(it, name):
    return name in [event["name"] for event in it.api("GET", "/v1/health").json["events"]]


def outage(it):
    it.faulty.control("gone", log=False)
    wait_for(lambda: it.put("app", "anna", "x").status == 503, "it is met")
    wait_for(lambda: is_on(it, "hsm_unavailable"), "health says so")
    for _ in range(50):
        assert it.put("app", "anna", "x").code == "hsm_unavailable"
    it.faulty.control(log=False)
    wait_for(lambda: it.put("app", "anna", "x").status in (200, 201), "it serves again")
    wait_for(lambda: not is_on(it, "hsm_unavailable"), "health says so")


def shortage(it):
    """A worker dies, and the token has no session for another."""
    wait_for(lambda: workers_of(it)["ready"] == 2, "both workers")
    it.faulty.control("sessions 1", "hide-session-limit", log=False)
    kill_workers(it.worker_pids()[:1])
    wait_for(lambda: is_on(it, "sessions_short"), "health says so")
    for _ in range(50):
        it.put("app", "anna", "x")
        assert it.look_up("app", principal_of(1)).status == 200
    it.faulty.control(log=False)
    wait_for(lambda: not is_on(it, "sessions_short"), "health says so")


def test_one_event_for_each_transition(make_faulty):
    """However many requests meet it: told once when it begins and once when it ends, and a worker that
    died is told of once."""
    it = make_faulty(hsm={"sessions_per_worker": "1"})
    it.fill(10)
    turns = 10 if LONG else 3
    for turn in range(1, turns + 1):
        outage(it)
        assert transitions(it, "hsm_unavailable") == (turn, turn)
    for turn in range(1, turns + 1):
        lost = events_raised(it, "worker_replaced")
        shortage(it)
        assert transitions(it, "sessions_short") == (turn, turn)
        assert events_raised(it, "worker_replaced") == lost + 1
    assert transitions(it, "hsm_unavailable") == (turns, turns)
    print(f"{turns} outages and {turns} shortages, each met by 50 requests or more: "
          f"{2 * turns} times told that it began, {2 * turns} times that it ended")


def contents(it):
    with it.sql() as sql:
        return [list(map(tuple, sql.execute(f"SELECT * FROM {table} ORDER BY 1")))
                for table in ("generations", "credentials", "sealed_keys")]


def test_the_token_moved_away_and_another_put_in_its_place(make_installation):
    """Under load: refused while it is away and while another of the same label stands there; served
    again when it is back, without a restart, and nothing was changed meanwhile."""
    it = make_installation(cache={"max_entries": "16"})
    it.init()
    it.start()
    it.create_app()
    it.fill(200)
    stop, answers = threading.Event(), []

    def ask():
        with contextlib.closing(it.connection()) as connection:
            turn = 0
            while not stop.is_set():
                turn += 1
                reply = connection.call("POST", "/v1/lookup", {
                    "app": "app", "principal": principal_of(turn % 200), "refresh": True})
                right = reply.status == 200 and \
                    reply.json["fields"]["password"] == password_of(turn % 200)
                answers.append("right" if right else reply.code or "wrong")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        tokens, away = it.token.directory / "tokens", it.token.directory / "away"
        tokens.rename(away)
        kill_workers(it.worker_pids())
        wait_for(lambda: it.put("app", "anna", "x").status == 503, "it is refused")
        before = contents(it)
        other = Token(it.directory / "other", label=it.token.label, pin=it.token.pin)
        (other.directory / "tokens").rename(tokens)
        wait_for(lambda: it.put("app", "anna", "x").code == "no_master_secret",
                 "another token of the same label is refused")
        wait_for(lambda: it.api("GET", "/v1/health").status == 503, "health says so")
        assert "sso-hsm:" not in it.token.pkcs11_tool("-O"), "nothing was made in it"
        assert contents(it) == before
        tokens.rename(it.token.directory / "other-tokens")
        away.rename(tokens)
        wait_for(lambda: it.put("app", "anna", "x").status in (200, 201), "it serves again")
        seen = len(answers)
        wait_for(lambda: answers[seen:].count("right") > 100, "lookups are right again")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(answers) <= {"right", "hsm_unavailable", "no_master_secret"}, set(answers)
    it.check_open()


def test_a_worker_s_life_by_its_calls(make_faulty):
    """One login of each worker, the first alone; its session is open as long as the worker serves;
    at the end C_Finalize, however often the service starts and stops."""
    it = make_faulty()
    it.fill(20)
    it.stop()
    cycles = 500 if LONG else 3
    it.faulty.control()
    for _ in range(cycles):
        it.faulty.forget_calls()
        it.start()
        wait_for(lambda: workers_of(it)["ready"] == 2, "both workers")
        items = [{"app": "app", "principal": principal_of(n)} for n in range(20)]
        it.api("POST", "/v1/lookup", {"items": items}, status=200)
        before = it.faulty.calls()
        assert it.stop() == 0
        calls = it.faulty.calls()
        pids = {call.pid for call in calls}
        logins = [call for call in calls if call.function == "C_Login"]
        assert sorted(call.pid for call in logins) == sorted(pids), "one login each"
        opened = [call for call in calls if call.function == "C_OpenSession"]
        first = logins[0]
        assert all(call.microseconds > first.microseconds for call in opened if call.pid != first.pid), \
            "nobody logs in, or opens a session, before the first is in"
        pinned = {(call.pid, call.session) for call in logins}
        closed = {(call.pid, call.session) for call in before if call.function == "C_CloseSession"}
        assert not pinned & closed and not [call for call in before if call.function == "C_Logout"]
        ended = {call.pid for call in calls if call.function == "C_Finalize" and call.result == "0x0"}
        assert ended == pids, "every worker finalises its module"


def test_a_start_with_an_empty_token_changes_nothing(make_installation):
    """What is missing from a token is neither deleted nor changed in the database; a second token
    beside the right one changes nothing either, whatever slot it gets."""
    it = make_installation()
    it.init()
    it.start()
    it.create_app()
    it.fill(20)
    it.stop()
    before = contents(it)
    tokens, away = it.token.directory / "tokens", it.token.directory / "away"
    tokens.rename(away)
    other = Token(it.directory / "other", label=it.token.label, pin=it.token.pin)
    (other.directory / "tokens").rename(tokens)
    it.start(wait=None)
    wait_for(lambda: it.look_up("app", principal_of(1)).code == "no_master_secret", "it is refused")
    assert it.sso("status", check=0).json["rows"]["total"] in (20, None)
    doctor = it.sso("doctor", check=3)
    assert doctor.json["result"] == "FAIL"
    it.stop()
    assert contents(it) == before
    tokens.rename(it.directory / "empty")
    away.rename(tokens)
    for n in range(3):
        it.token.add(f"another{n}")
    it.start()
    assert it.password("app", principal_of(1)) == password_of(1)
