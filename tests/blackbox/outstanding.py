"""Requests on very many connections at once, each sent before any is answered, so that a test knows
how many are in flight or queued at a moment."""

import contextlib
import json
import resource
import selectors
import socket
import time

from installation import PATIENCE_SECONDS, password_of, principal_of


def raise_descriptor_limit(wanted):
    """For this process and what it starts; False where the system does not allow so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return False
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return True


class Outstanding:
    """`count` connections; every round asks for one row on each."""

    def __init__(self, path, count, rows):
        self.rows, self.turn, self.answered, self.failures = rows, 0, 0, []
        self.selector = selectors.DefaultSelector()
        self.waiting = {}  # socket: [principal's number, what has come]
        self.sockets = []
        for _ in range(count):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.settimeout(PATIENCE_SECONDS)
            one.connect(str(path))
            self.sockets.append(one)
            self.selector.register(one, selectors.EVENT_READ)

    def send_all(self):
        assert not self.waiting
        for one in self.sockets:
            number = self.turn % self.rows
            self.turn += 1
            body = json.dumps({"app": "app", "principal": principal_of(number), "refresh": True})
            self.waiting[one] = [number, b""]
            one.sendall(b"POST /v1/lookup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode()))

    def outstanding(self):
        """After everything that has come is read."""
        while self.waiting and self.receive(0):
            pass
        return len(self.waiting)

    def receive_all(self):
        end = time.monotonic() + PATIENCE_SECONDS
        while self.waiting:
            assert time.monotonic() < end, f"{len(self.waiting)} requests are not answered"
            self.receive(1)

    def receive(self, seconds):
        ready = [key.fileobj for key, _ in self.selector.select(seconds)]
        for one in ready:
            data = one.recv(65536)
            assert data, "the service closed a connection"
            self.waiting[one][1] += data
            self.look(one)
        return bool(ready)

    def look(self, one):
        number, data = self.waiting[one]
        head, gap, body = data.partition(b"\r\n\r\n")
        if not gap:
            return
        length = int(next(line.split(b":")[1] for line in head.split(b"\r\n")
                          if line.lower().startswith(b"content-length:")))
        if len(body) < length:
            return
        del self.waiting[one]
        self.answered += 1
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(body)["fields"]["password"] == password_of(number):
                return
        self.failures.append(data[:300])

    def close(self):
        for one in self.sockets:
            one.close()
        self.selector.close()
