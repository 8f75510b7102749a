"""The TLS listener: who is let in, as whom, and what becomes of the rest."""

import contextlib
import http.client
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from authority import Authority, TlsConnection, tls_call, tls_port, with_tls
from installation import MY_GROUP, Installation, wait_for
from test_roles import ADMINS, MATRIX, PROPERTIES, ROLES

# Each role by a certificate: the name it has, and what gives it the role.
GIVEN = {
    "sso_admin": ("DNS:Admin.SSO.example", "san:DNS:admin.sso.example"),
    "affiliate_admin": ("URI:spiffe://sso.example/affiliates/7", "san:URI:spiffe://sso.example/affiliates/*"),
    "auditor": ("DNS:a1.audit.sso.example", "san:DNS:*.audit.sso.example"),
    "app_admin": ("DNS:admin.app.example", "san:DNS:admin.app.example"),
    "app_user": ("DNS:u1.users.example", "san:DNS:*.users.example"),
    "reader": ("URI:spiffe://app.example/reader", "san:URI:spiffe://app.example/reader"),
    "nobody": ("DNS:x.y.users.example", None),
    "of_another_app": ("DNS:other.example", "san:DNS:other.example"),
}


class House:
    """What test_roles does with Unix users, with certificates."""

    def __init__(self, installation, authority):
        self.it, self.ca = installation, authority
        self.certificate = {role: authority.issue(role, name) for role, (name, _) in GIVEN.items()}
        with_tls(installation, authority)
        installation.write_config(roles={
            "sso_admins": f"{MY_GROUP}, {GIVEN['sso_admin'][1]}",
            "affiliate_admins": GIVEN["affiliate_admin"][1], "auditors": GIVEN["auditor"][1]})
        installation.init()
        installation.start()
        for name in ["app", *(f"gone-{role}" for role in ROLES)]:
            installation.create_app(name, **self.groups())
        installation.create_app("foreign", **self.groups("of_another_app"))
        for name, of in (("app-config", None), ("foreign-config", "of_another_app")):
            options = [f"--{role}={group}" for role, group in self.groups(of).items()]
            installation.sso("app", "create", name, "--type", "config", "--field", "url",
                             "--field", "token:masked", *options, check=0)
            installation.sso("app", "enable", name, check=0)
            installation.api("PUT", f"/v1/apps/{name}/config", PROPERTIES, status=201)
        for role in ROLES:
            installation.put("app", self.own(role), f"of {role}", status=201)
        installation.put("app", "somebody", "of somebody", status=201)

    @staticmethod
    def groups(of=None):
        return {"admins": GIVEN[of or "app_admin"][1], "users": GIVEN[of or "app_user"][1],
                "readers": GIVEN[of or "reader"][1]}

    @staticmethod
    def own(role):
        name = GIVEN[role][0]
        return "san:" + (name.lower().replace("dns:", "DNS:") if name.startswith("DNS") else name)

    def fill(self, role, value):
        words = {"{app}": "app", "{config}": "app-config", "{any}": "somebody", "{own}": self.own(role),
                 "{gone}": f"gone-{role}"}
        if isinstance(value, dict):
            return {key: self.fill(role, each) for key, each in value.items()}
        for word, name in words.items():
            if isinstance(value, str) and word in value:
                value = value.replace(word, name.replace("/", "%2F") if value.startswith("/") else name)
        return value


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    installation = Installation()
    try:
        yield House(installation, Authority(tmp_path_factory.mktemp("authority") / "ca"))
    finally:
        installation.close()


@pytest.fixture
def served(make_installation, tmp_path):
    """An installation with a listener, an authority, and an administrator's certificate."""
    installation = make_installation()
    installation.ca = Authority(tmp_path / "ca")
    installation.node = with_tls(installation, installation.ca)
    installation.write_config(roles={"sso_admins": f"{MY_GROUP}, san:DNS:admin.sso.example",
                                     "auditors": "san:DNS:*.audit.example"})
    installation.admin = installation.ca.issue("admin", "DNS:admin.sso.example")
    installation.init()
    return installation


def reread(it, *, good=True):
    """SIGHUP, and what came of it is in the log."""
    sign = "the files of [tls] were read again" if good else "tls_files_refused"
    before = it.log.read_text().count(sign)
    it.custodian.send_signal(signal.SIGHUP)
    wait_for(lambda: it.log.read_text().count(sign) > before, f"{sign} after SIGHUP")


def events(it):
    return {event["name"]: event for event in it.api("GET", "/v1/health").json["events"]}


# --- who is who ---

@pytest.mark.parametrize("role", ROLES)
def test_matrix(house, role):
    """Every operation as every role, as on the Unix socket."""
    connection = TlsConnection(tls_port(house.it), house.certificate[role].context())
    with contextlib.closing(connection):
        for method, path, body, allowed in MATRIX:
            reply = connection.call(method, house.fill(role, path), house.fill(role, body))
            assert reply.status != 401 and (reply.status == 403) == (role not in allowed), (
                role, method, path, reply)


def test_rights_end_at_the_application(house):
    for role in ("app_admin", "app_user", "reader"):
        connection = TlsConnection(tls_port(house.it), house.certificate[role].context())
        with contextlib.closing(connection):
            for method, path, body, _ in MATRIX:
                if not ("{app}" in path or "{config}" in path or "{app}" in str(body)):
                    continue
                path = path.replace("{app}", "foreign").replace("{config}", "foreign-config")
                body = {**body, "app": "foreign"} if body and "app" in body else body
                reply = connection.call(method, house.fill(role, path), house.fill(role, body))
                assert reply.status == 403, (role, method, path, reply)


def test_own_is_what_the_certificate_says(house):
    house.it.put("app", house.own("app_user"), "of app_user")
    reply = tls_call(house.it, house.certificate["app_user"], "POST", "/v1/lookup", {"app": "app"}, status=200)
    assert reply.json["principal"] == "san:DNS:u1.users.example"
    assert reply.json["fields"]["password"] == "of app_user"


def test_a_ticket_of_a_certificate(house):
    it = house.it
    it.put("app", house.own("app_user"), "of app_user")
    it.sso("settings", "set", "tickets.allowed=yes", check=0)
    it.sso("app", "update", "app", "--allow-tickets", "yes", check=0)
    ticket = tls_call(it, house.certificate["app_user"], "POST", "/v1/tickets", {}, status=200).json["ticket"]
    given = tls_call(it, house.certificate["app_admin"], "POST", "/v1/tickets:redeem",
                     {"app": "app", "ticket": ticket, "sender": house.own("app_user")}, status=200)
    assert given.json["fields"]["password"] == "of app_user"


def test_the_audit_says_how(house):
    it = house.it
    tls_call(it, house.certificate["reader"], "POST", "/v1/lookup", {"app": "app", "principal": "somebody"}, status=200)
    records = it.sso("audit", "export", check=0).lines
    mine = [r for r in records if r["actor"] == house.own("reader") and r["operation"] == "credential.lookup"]
    assert mine and all(record["how"] == "tls" for record in mine)
    assert {r["how"] for r in records if r["actor"] not in map(house.own, ROLES)} <= {"unix", "console", "self"}


def test_principal_map(served, tmp_path):
    people = tmp_path / "principals"
    people.write_text("san:DNS:crm.example = crm\n")
    served.write_config(roles={"principal_map": people})
    served.start()
    served.create_app("app", users="san:DNS:crm.example")
    served.put("app", "crm", "of crm", status=201)
    crm = served.ca.issue("crm", "IP:10.0.0.1", "DNS:crm.example", "DNS:second.example")
    reply = tls_call(served, crm, "POST", "/v1/lookup", {"app": "app"}, status=200)
    assert reply.json["principal"] == "crm" and reply.json["fields"]["password"] == "of crm"


def test_a_wrong_pattern_is_refused(served):
    served.start()
    refused = served.sso("app", "create", "app", "--type", "individual", "--field", "user",
                         "--users", "san:DNS:*x.example", check=1)
    assert refused.problem["code"] == "bad_request" and "san:DNS:*x.example" in refused.problem["detail"]
    served.stop()
    served.write_config(roles={"auditors": "san:IP:10.0.0.1"})
    refused = served.sso("status", check=1).problem
    assert refused["code"] == "config_error" and "san:DNS:NAME" in refused["detail"]


# --- who is not let in ---

def strangers(ca, folder):
    """What is wrong, the context to try it with, and what the log says."""
    other = Authority(folder / "other", name="other CA")
    theirs = other.issue("theirs", "DNS:admin.sso.example")
    theirs.ca = ca.certificate

    def context(certificate):
        return certificate.context()

    without = ssl.create_default_context(cafile=ca.certificate)
    old = context(ca.issue("old", "DNS:admin.sso.example"))
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    many = ca.issue("many", *(f"DNS:n{n}.example" for n in range(9)))
    return {
        "no certificate": (without, "did not return a certificate"),
        "another authority": (context(theirs), "unable to get local issuer certificate"),
        "expired": (context(ca.issue("expired", "DNS:admin.sso.example", days=(-9, -1))), "certificate has expired"),
        "not yet": (context(ca.issue("early", "DNS:admin.sso.example", days=(2, 9))), "not yet valid"),
        "for servers": (context(ca.issue("server", "DNS:admin.sso.example", usage="serverAuth")), "purpose"),
        "no name": (context(ca.issue("nameless")), "no DNS or URI"),
        "address only": (context(ca.issue("address", "IP:10.0.0.1")), "no DNS or URI"),
        "a pattern as name": (context(ca.issue("star", "DNS:*.sso.example")), "no DNS or URI"),
        "too many names": (context(many), "more than 8 alternative names"),
        "TLS 1.2": (old, "unsupported protocol"),
    }


def test_strangers_end_in_their_handshake(served, tmp_path):
    served.start()
    cases = strangers(served.ca, tmp_path)
    for case, (context, reason) in cases.items():
        before = served.log.read_text().count("a TLS handshake failed")
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            with contextlib.closing(TlsConnection(tls_port(served), context)) as connection:
                reply = connection.call("GET", "/v1/health")
                pytest.fail(f"{case}: answered {reply}")
        wait_for(lambda n=before: served.log.read_text().count("a TLS handshake failed") > n, f"{case} is told")
        last = [line for line in served.log.read_text().splitlines() if "a TLS handshake failed" in line][-1]
        assert reason in last, (case, last)
        time.sleep(0.15)  # the log takes ten of these in a second
    tls_call(served, served.admin, "GET", "/v1/status", status=200)
    metrics = served.api("GET", "/metrics").body.decode()
    assert f"sso_hsm_tls_handshakes_failed_total {len(cases)}\n" in metrics
    assert 'sso_hsm_tls_expires_timestamp_seconds{file="certificate"}' in metrics


def read_all(plain):
    plain.settimeout(60)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := plain.recv(4096):
            data += chunk
    return data


@pytest.mark.parametrize("data", [b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 4096, b"\x16\x03\x01\xff\xff" + b"x" * 70000,
                                  bytes(range(256)) * 40], ids=["plaintext", "zeros", "record", "bytes"])
def test_garbage(house, data):
    with socket.create_connection(("127.0.0.1", tls_port(house.it))) as plain:
        with contextlib.suppress(OSError):
            plain.sendall(data)
        answer = read_all(plain)
    assert b"HTTP" not in answer and len(answer) < 64, answer
    tls_call(house.it, house.certificate["sso_admin"], "GET", "/v1/status", status=200)


def test_half_handshakes_cost_nothing_but_themselves(served):
    """More of them than there may be connections: the socket and whoever has a certificate go on."""
    served.write_config(limits={"max_connections": 64, "request_timeout": "3s"})
    served.start()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", tls_port(served)))) for _ in range(100)]
        for plain in held[::2]:
            with contextlib.suppress(OSError):
                plain.sendall(b"\x16\x03\x01\x02")
        served.api("GET", "/v1/status", status=200)
        for _ in range(20):
            tls_call(served, served.admin, "GET", "/v1/status", status=200)
        for plain in held:  # each is closed by the service, without an answer
            assert len(read_all(plain)) < 64
    assert "a TLS handshake did not end in time" in served.log.read_text()
    wait_for(lambda: b"sso_hsm_connections 1\n" in served.api("GET", "/metrics").body, "all are gone")


def test_strangers_take_nobodys_place(served):
    """However many are accepted at once, whoever is known is let in beside them."""
    served.write_config(limits={"max_connections": 32})
    served.start()
    served.custodian.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", tls_port(served))))
            known = stack.enter_context(socket.socket(socket.AF_UNIX))
            known.connect(str(served.socket))
            known.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        finally:
            served.custodian.send_signal(signal.SIGCONT)
        known.settimeout(60)
        assert known.recv(12) == b"HTTP/1.1 200"


def test_limits_hold_per_certificate(served):
    served.write_config(limits={"max_connections_per_peer": 4})
    served.start()
    second = served.ca.issue("second", "DNS:b.audit.example")
    with contextlib.ExitStack() as stack:
        open_now = [stack.enter_context(contextlib.closing(TlsConnection(tls_port(served), served.admin.context())))
                    for _ in range(5)]
        codes = [connection.call("GET", "/v1/status").status for connection in open_now]
        assert codes == [200, 200, 200, 200, 429]
        tls_call(served, second, "GET", "/v1/status", status=200)


# --- what is read again ---

def test_revocation(served):
    """Counts for the next handshake and for the next request of a connection that is open."""
    served.write_config(tls={"crl": served.ca.revocation_list()})
    served.start()
    leaves, stays = served.ca.issue("leaves", "DNS:c.audit.example"), served.admin
    connections = {name: TlsConnection(tls_port(served), certificate.context())
                   for name, certificate in (("leaves", leaves), ("stays", stays))}
    for connection in connections.values():
        assert connection.call("GET", "/v1/status").status == 200
    served.ca.revocation_list(leaves)
    reread(served)
    refused = connections["leaves"].call("GET", "/v1/status")
    assert refused.status == 403 and refused.code == "forbidden" and refused.headers["Connection"] == "close"
    assert connections["stays"].call("GET", "/v1/status").status == 200
    for connection in connections.values():
        connection.close()
    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        tls_call(served, leaves, "GET", "/v1/status")
    wait_for(lambda: "certificate revoked" in served.log.read_text(), "the reason")
    tls_call(served, stays, "GET", "/v1/status", status=200)


def test_no_session_is_resumed(served):
    """A ticket would let in whoever was revoked meanwhile."""
    served.start()
    context = served.admin.context()

    def connect(session=None):
        plain = socket.create_connection(("127.0.0.1", tls_port(served)))
        wrapped = context.wrap_socket(plain, server_hostname="localhost", session=session)
        wrapped.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wrapped.recv(12) == b"HTTP/1.1 200"
        return wrapped

    with connect() as first:
        session = first.session
        assert session is None or not session.has_ticket
    with connect(session) as second:
        assert not second.session_reused
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{tls_port(served)}", "-cert",
                           served.admin.file, "-key", served.admin.key, "-CAfile", served.ca.certificate],
                          input="GET /v1/health HTTP/1.0\r\n\r\n", text=True, capture_output=True, check=False,
                          timeout=60)
    assert "TLSv1.3" in done.stdout and "New Session Ticket" not in done.stdout, done.stdout


def test_bad_new_files_leave_the_former_in_force(served, tmp_path):
    served.write_config(tls={"crl": served.ca.revocation_list()})
    served.start()
    node, other = served.node, Authority(tmp_path / "other", name="other CA")
    good = {path: path.read_bytes() for path in (node.file, node.key, served.ca.certificate, served.ca.folder / "ca.crl")}
    expired = served.ca.issue("past", "DNS:localhost", days=(-9, -1))
    client = served.ca.issue("client", "DNS:localhost", usage="clientAuth")
    served.admin.ca = tmp_path / "ca of clients.crt"
    served.admin.ca.write_bytes(served.ca.certificate.read_bytes())
    foreign = other.issue("foreign", "DNS:localhost")

    def write(path, data, mode=0o400):
        path.chmod(0o600)
        path.write_bytes(data)
        path.chmod(mode)

    cases = {
        "a key that others can read": lambda: node.key.chmod(0o644),
        "a key of another certificate": lambda: write(node.key, foreign.key.read_bytes()),
        "no key": lambda: write(node.key, b"-----BEGIN PRIVATE KEY-----\n"),
        "an expired certificate": lambda: [write(node.file, expired.file.read_bytes()),
                                           write(node.key, expired.key.read_bytes())],
        "a certificate for clients": lambda: [write(node.file, client.file.read_bytes()),
                                              write(node.key, client.key.read_bytes())],
        "no authority": lambda: write(served.ca.certificate, b"nothing here\n"),
        "a leaf as authority": lambda: write(served.ca.certificate, node.file.read_bytes()),
        "a list of another authority": lambda: write(served.ca.folder / "ca.crl", other.revocation_list().read_bytes()),
    }
    for case, spoil in cases.items():
        spoil()
        reread(served, good=False)
        assert "[tls]" in events(served)["tls_files_refused"]["text"], case
        tls_call(served, served.admin, "GET", "/v1/status", status=200)
        for path, data in good.items():
            write(path, data)
        reread(served)
        assert "tls_files_refused" not in events(served), case


def test_bad_files_at_the_start(served):
    served.node.key.chmod(0o640)
    done = subprocess.run([served.prefix / "bin" / "sso-custodian", "--config", served.config, "--check"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "config_error" in done.stderr and "chmod 0400" in done.stderr, done
    started = subprocess.run([served.prefix / "bin" / "sso-custodian", "--config", served.config],
                             capture_output=True, text=True, check=False, timeout=120)
    assert started.returncode == 1 and "chmod 0400" in started.stderr
    served.node.key.chmod(0o400)
    done = subprocess.run([served.prefix / "bin" / "sso-custodian", "--config", served.config, "--check"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    served.write_config(tls={"ca": None})
    refused = subprocess.run([served.prefix / "bin" / "sso-custodian", "--config", served.config, "--check"],
                             capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "certificate, key and ca" in refused.stderr


def test_the_certificate_is_replaced_under_load(served):
    """Whoever is connected stays so, whoever comes sees the new one, and no request fails."""
    served.start()
    stop, failures, done, seen = threading.Event(), [], [0] * 6, set()

    def serial(connection):
        return dict(item[0] for item in connection.sock.getpeercert()["subject"])["commonName"]

    def work(number):
        context, connection = served.admin.context(), None
        while not stop.is_set():
            try:
                if connection is None or (number % 2 and done[number] % 5 == 0):
                    if connection is not None:
                        connection.close()
                    connection = TlsConnection(tls_port(served), context)
                if connection.call("GET", "/v1/status").status != 200:
                    failures.append("status")
                seen.add(serial(connection))
                done[number] += 1
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                return
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=work, args=[n]) for n in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            new = served.ca.issue(f"node{turn}", "DNS:localhost")
            for old, fresh in ((served.node.file, new.file), (served.node.key, new.key)):
                fresh.rename(old.with_suffix(".new"))
                old.with_suffix(".new").rename(old)
            reread(served)
            counts = list(done)
            wait_for(lambda c=counts: failures or (all(now >= then + 7 for now, then in zip(done, c))), "requests go on")
            wait_for(lambda t=turn: failures or f"node{t}" in seen, "somebody sees the new one")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:3]


def test_expiry_is_an_event(served):
    short = served.ca.issue("short", "DNS:localhost", days=(-1, 10))
    past = served.ca.issue("past", "DNS:localhost", days=(-9, -1))
    served.write_config(tls=past.section())
    served.start()
    assert events(served)["certificate_expired"]["severity"] == "error"
    served.api("GET", "/v1/apps", status=200)
    served.stop()
    served.write_config(tls=short.section())
    served.start()
    wait_for(lambda: "certificate_expires" in events(served), "it is told")
    assert events(served)["certificate_expires"]["severity"] == "warning"
    assert "certificate_expired" not in events(served)
    # A revocation list that has ended lets nobody in: an event tells it.
    served.write_config(tls={"crl": served.ca.revocation_list(seconds=1)})
    served.restart()
    wait_for(lambda: "crl" in events(served).get("certificate_expired", {}).get("text", ""), "the list has ended")
    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        tls_call(served, served.admin, "GET", "/v1/status")
    served.ca.revocation_list()
    reread(served)
    wait_for(lambda: "certificate_expired" not in events(served), "the new list counts")
    tls_call(served, served.admin, "GET", "/v1/status", status=200)


def test_an_authority_in_between(served, tmp_path):
    """The chain comes from the client; the list of each authority counts."""
    between = Authority(tmp_path / "between", name="between", parent=served.ca)
    leaf = between.issue("leaf", "DNS:d.audit.example")
    leaf.file.write_bytes(leaf.file.read_bytes() + between.certificate.read_bytes())
    leaf.ca = served.ca.certificate
    lists = tmp_path / "lists.pem"
    bundle = tmp_path / "authorities.pem"
    bundle.write_bytes(served.ca.certificate.read_bytes() + between.certificate.read_bytes())
    lists.write_bytes(served.ca.revocation_list().read_bytes() + between.revocation_list().read_bytes())
    served.write_config(tls={"ca": bundle, "crl": lists})
    served.start()
    tls_call(served, leaf, "GET", "/v1/status", status=200)

    class Intermediate:
        file = between.certificate
    lists.write_bytes(served.ca.revocation_list(Intermediate).read_bytes() + between.revocation_list().read_bytes())
    reread(served)
    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        tls_call(served, leaf, "GET", "/v1/status")
    tls_call(served, served.admin, "GET", "/v1/status", status=200)


# --- the end, and what else may be short ---

def test_drain(served):
    """Idle connections and half handshakes do not hold it up."""
    served.start()
    with contextlib.closing(TlsConnection(tls_port(served), served.admin.context())) as idle, \
            socket.create_connection(("127.0.0.1", tls_port(served))):
        assert idle.call("GET", "/v1/status").status == 200
        wait_for(lambda: b"sso_hsm_connections 3\n" in served.api("GET", "/metrics").body, "both are there")
        assert served.stop() == 0
    assert "still open at the end of the drain" not in served.log.read_text()


def test_no_descriptor_left(served):
    """The listener rests and goes on, instead of spinning or ending."""
    served.start()
    pid = served.custodian.pid
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(list(served.directory.__class__(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, old[1]))
    with contextlib.ExitStack() as stack:
        def one_more(port):
            if port == "tls":
                stack.enter_context(socket.create_connection(("127.0.0.1", tls_port(served))))
            else:
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(served.socket))

        # A file that was open while they were counted, or a gap between them, lets one more in.
        def is_told(port, count):
            told = served.log.read_text().count("a connection was not accepted") > count
            if not told:
                one_more(port)
            return told

        for port in ("tls", "socket"):
            before = served.log.read_text().count("a connection was not accepted")
            wait_for(lambda p=port, n=before: is_told(p, n), f"it is told of {port}")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    served.api("GET", "/v1/status", status=200)
    tls_call(served, served.admin, "GET", "/v1/status", status=200)
