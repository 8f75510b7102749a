"""Many connections of all kinds at once: lookups and writes that must never fail, bad requests, slow
clients, connections cut in the middle. Prints what was done, and what memory and descriptors did."""

import contextlib
import os
import random
import re
import socket
import threading
import time
from pathlib import Path

from installation import (PATIENCE_SECONDS, SANITIZED, Connection, credential_path, principal_of,
                          wait_for)

LONG = os.environ.get("SSO_HSM_LONG") == "1"
SECONDS = 300 if LONG else 0  # 0: until every client has done its rounds
ROUNDS = 3
CLIENTS = {"reader": 90, "writer": 40, "bad": 30, "slow": 20, "cut": 20} if LONG else \
    {"reader": 10, "writer": 6, "bad": 4, "slow": 4, "cut": 4}
ROWS = 500
SAMPLE_SECONDS = 15
# From the middle of the long form to its end, where some hundred thousand requests are answered: a
# leak of a few bytes at each would show.
GROWN_MAX_BYTES = 2 << 20

BAD_REQUESTS = [
    ("POST", "/v1/lookup", b"{\"app\":", 400),
    ("POST", "/v1/lookup", b"[]", 400),
    ("POST", "/v1/lookup", b"{\"app\":\"app\",\"principal\":7}", 400),
    ("POST", "/v1/lookup", b"{\"items\":[]}", 400),
    ("POST", "/v1/lookup", b"{\"a\":" * 3000, 400),
    ("POST", "/v1/lookup", b" " * ((2 << 20) + 1), 413),
    ("POST", "/v1/lookup", b"{\"app\":\"app\",\"principal\":\"nobody\"}", 404),
    ("GET", "/v1/%zz", None, 400),
    ("GET", "/v1/apps/" + "a/" * 50, None, 404),
    ("BREW", "/v1/health", None, 404),
    ("PUT", "/v1/apps/app/credentials/p000001", b"{\"fields\":{\"no-such\":\"x\"}}", 400),
]


class Soak:
    """The clients of one phase, each a thread; what they did and what went wrong."""

    def __init__(self, it):
        self.it = it
        self.done = {kind: 0 for kind in CLIENTS}
        self.each, self.wrong, self.resident = {}, [], []
        self.stop = threading.Event()
        self.lock = threading.Lock()

    def client(self, kind, number):
        one_round = getattr(self, kind)(number)
        try:
            while not self.stop.is_set():
                next(one_round)
                with self.lock:
                    self.done[kind] += 1
                    self.each[kind, number] = self.each.get((kind, number), 0) + 1
        except Exception as error:  # whatever it is, it is told at the end  # pylint: disable=broad-except
            with self.lock:
                self.wrong.append(f"{kind} {number}: {error!r}")
        finally:
            one_round.close()

    def run(self, seconds):
        threads = [threading.Thread(target=self.client, args=(kind, number))
                   for kind, count in CLIENTS.items() for number in range(count)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + (seconds or 5 * PATIENCE_SECONDS)
        next_sample = 0
        while time.monotonic() < end and not self.wrong:
            if time.monotonic() >= next_sample:
                next_sample = time.monotonic() + SAMPLE_SECONDS
                self.resident.append(resident_bytes(self.it.custodian.pid))
            rounds = list(self.each.values())
            if not seconds and len(rounds) == len(threads) and min(rounds) >= ROUNDS:
                break
            time.sleep(0.05)
        self.stop.set()
        for thread in threads:
            thread.join()
        assert not self.wrong, self.wrong[:5]
        assert len(self.each) == len(threads) and min(self.each.values()) >= ROUNDS, self.done

    # --- the good ones: every answer is right ---
    def reader(self, number):
        rng = random.Random(number)
        with contextlib.closing(self.it.connection()) as connection:
            while True:
                if rng.random() < 0.1:
                    items = [principal_of(rng.randrange(ROWS)) for _ in range(20)]
                    reply = connection.call("POST", "/v1/lookup", {
                        "items": [{"app": "app", "principal": item} for item in items]})
                    assert reply.status == 200, reply
                    found = [item["principal"] for item in reply.json["items"]]
                    assert found == items, found
                else:
                    principal = principal_of(rng.randrange(ROWS))
                    reply = connection.call("POST", "/v1/lookup",
                                            {"app": "app", "principal": principal})
                    assert reply.status == 200, reply
                    password = reply.json["fields"]["password"]
                    assert password.startswith(f"secret-of-{principal[1:]}-"), password
                yield

    def writer(self, number):
        with contextlib.closing(self.it.connection()) as connection:
            for turn in range(1 << 30):
                principal, password = f"writer-{number}", f"{number}-{turn}-" + "x" * (turn % 500)
                reply = connection.call("PUT", credential_path("app", principal), {
                    "external_user": "w", "fields": {"user": "w", "password": password}})
                assert reply.status in (200, 201), reply
                reply = connection.call("POST", "/v1/lookup", {"app": "app", "principal": principal})
                assert reply.json["fields"]["password"] == password, reply
                yield

    # --- those that others must not notice ---
    def bad(self, number):
        for turn in range(number, 1 << 30):
            method, path, body, status = BAD_REQUESTS[turn % len(BAD_REQUESTS)]
            # What is too large may be cut off while it is sent: for its time, or as the peer's share.
            with contextlib.closing(self.it.connection()) as connection, \
                    contextlib.suppress(OSError) if status == 413 else contextlib.nullcontext():
                reply = connection.call(method, path, body)
                assert reply.status == status, (method, path, reply)
                assert "application/problem+json" in reply.headers["Content-Type"]
            yield

    def slow(self, number):
        """Byte by byte, until the service has enough of it; or an answer that is never read."""
        request = (b"POST /v1/lookup HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" +
                   b" " * 1000)
        while True:
            with contextlib.closing(self.dial()) as sock:
                if number % 2:
                    # Half a minute's worth of bytes: nobody is let to send for as long.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        for byte in request[:300]:
                            if self.stop.wait(0.1):
                                break
                            sock.sendall(bytes([byte]))
                        else:
                            raise AssertionError("a request may take as long as it likes")
                else:
                    names = ",".join(f'{{"app":"app","principal":"{principal_of(n)}"}}'
                                     for n in range(ROWS))
                    body = f'{{"items":[{names}]}}'.encode()
                    sock.sendall(b"POST /v1/lookup HTTP/1.1\r\nHost: x\r\nContent-Length: "
                                 + str(len(body)).encode() + b"\r\n\r\n" + body)
                    sock.recv(10)
                    self.stop.wait(0.5)
            yield

    def cut(self, number):
        rng = random.Random(1000 + number)
        body = b'{"app":"app","principal":"p000001"}'
        whole = (b"POST /v1/lookup HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                 str(len(body)).encode() + b"\r\n\r\n" + body)
        while True:
            with contextlib.closing(self.dial()) as sock, contextlib.suppress(OSError):
                sock.sendall(whole[:rng.randrange(len(whole) + 1)])
                if rng.random() < 0.3:
                    sock.shutdown(socket.SHUT_WR)
            # Once this is answered those before it were noticed: else they would count as this peer's.
            with contextlib.closing(self.it.connection()) as connection:
                assert connection.call("GET", "/v1/health").status == 200
            yield

    def dial(self):
        connection = Connection(self.it.socket)
        connection.connect()
        return connection.sock


def resident_bytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()).group(1)) << 10


def descriptors(pid):
    """How many sockets, how many others."""
    targets = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            targets.append(os.readlink(entry))
    sockets = sum(target.startswith("socket:") for target in targets)
    return sockets, len(targets) - sockets


def settled(pid):
    """Descriptors once all connections of the phase are gone."""
    before, end = None, time.monotonic() + PATIENCE_SECONDS
    while (now := descriptors(pid)) != before and time.monotonic() < end:
        before = now
        time.sleep(0.5)
    return now


def test_all_kinds_of_clients_at_once(make_installation):
    # All are one peer here, and connections that are gone count until that is noticed.
    it = make_installation(limits={"request_timeout": "5s", "idle_timeout": "10s",
                                   "max_connections_per_peer": "1024"})
    it.init()
    it.start()
    it.create_app()
    it.fill(ROWS)
    pid = it.custodian.pid

    warm = Soak(it)  # the same clients: what they make grow once is no leak
    warm.run(SECONDS // 5)
    fds = settled(pid)
    soak = Soak(it)
    began = time.monotonic()
    soak.run(SECONDS)
    seconds = time.monotonic() - began
    fds_after = settled(pid)

    print(f"\n{sum(CLIENTS.values())} connections for {seconds:.0f} s: "
          + ", ".join(f"{count} {kind} rounds" for kind, count in soak.done.items())
          + "; none of the good ones failed; memory each "
          f"{SAMPLE_SECONDS} s {' '.join(str(each >> 10) for each in soak.resident)} KiB,"
          f" sockets {fds[0]} to {fds_after[0]}, other descriptors {fds[1]} to {fds_after[1]}")
    wait_for(lambda: descriptors(pid)[0] <= fds[0], f"no connection is left: {fds_after} after {fds}")
    # A reader of the database is opened once more where more ask at the same moment than before.
    assert fds_after[1] <= fds[1] + 3 * 16
    if LONG and not SANITIZED:
        third = len(soak.resident) // 3
        assert max(soak.resident[-third:]) - max(soak.resident[third:-third]) < GROWN_MAX_BYTES
    it.stop()
    assert it.sso("audit", "verify", check=0).json["ok"]
    it.check_open()
