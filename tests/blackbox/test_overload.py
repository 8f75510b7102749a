"""More than the service can do at a time: what is too much is refused at once, with a code and when
to come again, and what was taken up is answered right. Clients that are slow, stuck or gone cost
nothing but their connection."""

import contextlib
import json
import os
import re
import signal
import socket
import time

import pytest

from installation import password_of, principal_of, wait_for
from outstanding import raise_descriptor_limit

ROWS = 50
THREADS, WAITING = 16, 1536  # custodian/server.c, custodian/exchange.c
TOO_MANY = 30
DEADLINE_SECONDS = 25  # custodian/server.c: who waits longer is told so


def request(path, body):
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data


class Client:
    """One connection that asks for a row whose key only the token can give."""

    def __init__(self, it, number):
        self.number = number
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(it.socket))
        self.sock.sendall(request("/v1/lookup", {"app": "app", "refresh": True,
                                                 "principal": principal_of(number)}))
        self.sock.setblocking(False)
        self.text = b""

    def answer(self):
        """Status, headers and body once all of it is there; what has come stays."""
        with contextlib.suppress(BlockingIOError):
            part = self.sock.recv(65536)
            assert part, f"cut off after {self.text!r}"
            self.text += part
        head, found, body = self.text.partition(b"\r\n\r\n")
        if not found:
            return None
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        if len(body) < int(headers["Content-Length"]):
            return None
        return int(head.split()[1]), headers, json.loads(body)

    def close(self):
        self.sock.close()


@pytest.fixture
def busy(make_installation):
    """Rows, room for many connections, and workers that stand still until `go` is called."""
    it = make_installation(limits={"max_connections": "4096", "max_connections_per_peer": "4096"})
    it.init()
    it.start()
    it.create_app()
    it.fill(ROWS)
    stopped = []

    def stand_still():
        stopped.extend(it.worker_pids())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    def go():
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    it.stand_still, it.go = stand_still, go
    yield it
    go()


def test_more_than_may_wait_is_refused_at_once(busy):
    if not raise_descriptor_limit(4 * (THREADS + WAITING + TOO_MANY)):
        pytest.skip("the system allows too few descriptors")
    busy.stand_still()
    began = time.monotonic()
    clients = [Client(busy, n % ROWS) for n in range(THREADS + WAITING + TOO_MANY)]

    def refused():
        answers = ((client, client.answer()) for client in clients)
        return [client for client, answer in answers if answer is not None and answer[0] == 429]

    wait_for(lambda: len(refused()) >= TOO_MANY, "those that are too many are told so")
    for client in refused():
        status, headers, body = client.answer()
        assert status == 429 and body["code"] == "too_many_requests", body
        assert int(headers["Retry-After"]) > 0 and headers["Content-Type"] == "application/problem+json"
    # Who watches waits behind none of them.
    assert busy.api("GET", "/v1/health").status in (200, 503)
    turned_away = refused()
    told = re.search(r"^sso_hsm_requests_turned_away_total (\d+)$",
                     busy.api("GET", "/metrics").body.decode(), re.M)
    assert int(told.group(1)) >= len(turned_away)
    busy.go()
    for client in clients:
        status, _, body = wait_for(client.answer, "what was taken up is answered")
        if client in turned_away:
            continue
        if status != 200 and time.monotonic() - began >= DEADLINE_SECONDS:
            client.close()  # a machine that does much else
            continue
        assert status == 200, body
        assert body["fields"]["password"] == password_of(client.number), body
        client.close()
    # Those that were refused come again, on the same connection.
    for client in turned_away:
        client.text = b""
        client.sock.setblocking(True)
        client.sock.sendall(request("/v1/lookup", {"app": "app",
                                                   "principal": principal_of(client.number)}))
        client.sock.setblocking(False)
        status, _, body = wait_for(client.answer, "it goes on")
        assert status == 200 and body["fields"]["password"] == password_of(client.number), body
        client.close()


def test_clients_that_are_stuck_or_gone_cost_their_connection_only(busy):
    """Half a request, an answer that nobody reads, a connection that ends while its request waits
    for the token: of each more than there are threads."""
    stuck = []
    for n in range(3 * THREADS):
        client = Client(busy, n % ROWS)  # is never read
        half = socket.socket(socket.AF_UNIX)
        half.connect(str(busy.socket))
        half.sendall(b"POST /v1/lookup HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
        stuck += [client, half]
    busy.stand_still()
    gone = [Client(busy, n % ROWS) for n in range(3 * THREADS)]
    for client in gone:
        client.close()
    busy.go()
    for n in range(ROWS):
        assert busy.password("app", principal_of(n)) == password_of(n)
    for client in stuck:
        client.close()
