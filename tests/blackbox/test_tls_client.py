"""sso-hsm and libsso-hsm with a custodian on another host: over TLS, with certificates on both sides."""

import os
import socket
import subprocess
import threading

import pytest

from authority import Authority, tls_port, with_tls
from installation import Installation, wait_for
from test_library import sample  # noqa: F401  (a fixture)


class Remote:
    """An installation, and the configuration of a host that has nothing but a certificate."""

    def __init__(self, installation, folder):
        self.it, self.folder = installation, folder
        self.ca = Authority(folder / "ca")
        with_tls(installation, self.ca)
        installation.write_config(roles={"sso_admins": "san:URI:spiffe://sso.example/admin/*"})
        self.admin = self.ca.issue("admin", "URI:spiffe://sso.example/admin/alice", usage="clientAuth")
        self.user = self.ca.issue("user", "DNS:crm.apps.example", usage="clientAuth")
        installation.init()
        installation.start(wait=None)
        self.port = tls_port(installation)
        wait_for(lambda: self.sso("status").json["health"]["encrypt"], "it serves")
        self.sso("app", "create", "crm", "--type", "individual", "--field", "user", "--field", "password:masked",
                 "--users", "san:DNS:*.apps.example", "--readers", "san:DNS:reader.example", check=0)
        self.sso("app", "enable", "crm", check=0)

    def sso(self, *arguments, who=None, url=None, check=None, environment=None, **client):
        who = who or self.admin
        values = {"url": url or f"https://localhost:{self.port}", **who.section(), **client}
        config = self.folder / "client.conf"
        config.write_text("[client]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()
                                                if value is not None))
        self.it.config, own = config, self.it.config
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            return self.it.sso(*arguments, check=check)
        finally:
            self.it.config = own
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    installation = Installation()
    try:
        yield Remote(installation, tmp_path_factory.mktemp("remote"))
    finally:
        installation.close()


def test_the_tool_does_its_work(remote):
    """An administrator and a user, each by certificate, with no [hsm] and no database here."""
    line = '{"app":"crm","principal":"san:DNS:crm.apps.example","external_user":"e","fields":{"user":"u","password":"geheim"}}\n'
    path = remote.folder / "lines"
    path.write_text(line)
    assert remote.sso("cred", "import", path, check=0).json["created"] == 1
    got = remote.sso("cred", "get", "crm", who=remote.user, check=0).json
    assert got["fields"] == {"user": "u", "password": "geheim"}
    assert remote.sso("status", check=0).json["generation"]["number"] == 1
    assert remote.sso("status", url=f"https://localhost:{remote.port}/", check=0)
    assert "the service" not in remote.sso("settings", "show", check=0).err
    refused = remote.sso("status", who=remote.user, check=4).problem
    assert refused["code"] == "forbidden" and str(remote.user.file) in refused["detail"], refused
    refused = remote.sso("cred", "get", "crm", "san:DNS:crm.apps.example", check=4).problem
    assert refused["code"] == "forbidden"


def test_the_environment_diverts_nothing(remote):
    done = remote.sso("status", check=0, environment={"https_proxy": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9",
                                                      "SSL_CERT_FILE": "/nonexistent", "CURL_CA_BUNDLE": "/nonexistent"})
    assert done.json["generation"]["number"] == 1


def test_what_is_wrong_is_told(remote, tmp_path):
    """Each trouble with its remedy, and nothing is asked at a terminal."""
    other = Authority(tmp_path / "other", name="other CA")
    foreign = other.issue("foreign", "URI:spiffe://sso.example/admin/eve")
    expired = remote.ca.issue("expired", "URI:spiffe://sso.example/admin/old", days=(-9, -1))
    locked = remote.ca.issue("locked", "URI:spiffe://sso.example/admin/x")
    remote.ca.openssl("pkcs8", "-topk8", "-in", locked.key, "-out", tmp_path / "locked.key", "-passout", "pass:1234")
    (tmp_path / "locked.key").chmod(0o400)
    open_key = tmp_path / "open.key"
    open_key.write_bytes(remote.admin.key.read_bytes())
    open_key.chmod(0o644)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        cases = [
            ({"ca": other.certificate}, "config_error", "[client] ca must be the authority"),
            ({"url": f"https://127.0.0.2:{remote.port}"}, "service_unavailable", "nobody answers"),
            ({"url": f"https://localhost:{nobody.getsockname()[1]}"}, "service_unavailable", "nobody answers"),
            ({"url": f"https://no-such-host.invalid:{remote.port}"}, "service_unavailable", "is not known"),
            ({"url": f"http://localhost:{remote.port}"}, "config_error", "https://HOST:PORT"),
            ({"certificate": None}, "config_error", "certificate is missing"),
            ({"key": None}, "config_error", "key is missing"),
            ({"ca": None}, "config_error", "ca is missing"),
            ({"ca": "/nonexistent/ca.crt"}, "config_error", "/nonexistent/ca.crt cannot be read"),
            ({"key": open_key}, "config_error", "chmod 0400"),
            ({"key": remote.user.key}, "config_error", "cannot be used"),
            ({"key": tmp_path / "locked.key", "certificate": locked.file}, "config_error", "without a passphrase"),
        ]
        for values, code, text in cases:
            section = {**remote.admin.section(), **values}
            url = section.pop("url", None)
            failed = remote.sso("status", url=url, **section)
            assert failed.problem["code"] == code and text in failed.problem["detail"], (values, failed)
    # The custodian's alert may be lost when it closes: then the text says that it may be that.
    for stranger in (foreign, expired):
        failed = remote.sso("status", **{**stranger.section(), "ca": remote.ca.certificate})
        assert failed.code in (4, 5) and str(stranger.file) in failed.problem["detail"], failed
        assert "log" in failed.problem["detail"]


def test_another_name(make_installation, tmp_path):
    """A certificate for another host, and one that has expired, are not believed."""
    it = make_installation()
    ca = Authority(tmp_path / "ca")
    admin = ca.issue("admin", "DNS:admin.example")
    it.init()
    for file, names, days, text in (("other", ["DNS:node7.sso.example"], (-1, 9), "is for another name"),
                                    ("past", ["DNS:localhost"], (-9, -1), "has expired")):
        node = ca.issue(file, *names, days=days)
        it.write_config(listen={"tls": "127.0.0.1:0"}, tls=node.section())
        it.start()
        client = tmp_path / "client.conf"
        client.write_text(f"[client]\nurl = https://localhost:{tls_port(it)}\n"
                          f"certificate = {admin.file}\nkey = {admin.key}\nca = {ca.certificate}\n")
        own, it.config = it.config, client
        failed = it.sso("status", check=1).problem
        it.config = own
        assert failed["code"] == "config_error" and text in failed["detail"], failed
        it.stop()


def test_no_tls_at_the_other_end(remote):
    """Somebody who speaks something else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            with listener.accept()[0] as one:
                one.recv(1000)
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        failed = remote.sso("status", url=f"https://localhost:{listener.getsockname()[1]}", check=5)
        thread.join()
    assert failed.problem["code"] == "service_unavailable"


def test_the_library(remote, sample):  # noqa: F811
    """The sample program, as an application on another host."""
    def run(certificate, *arguments, data=None, url=None):
        return subprocess.run([sample, url or f"https://localhost:{remote.port}", *arguments], input=data, text=True,
                              capture_output=True, check=False, cwd="/",
                              env={**os.environ, "CERTIFICATE": str(certificate.file), "KEY": str(certificate.key),
                                   "CA": str(remote.ca.certificate)})

    own = "san:DNS:crm.apps.example"
    done = run(remote.user, "crm", own, "set", data="geheim-ü\n")
    assert done.returncode == 0 and "a password of 9 bytes" in done.stdout and "geheim" not in done.stdout, done
    assert run(remote.user, "crm").returncode == 0
    refused = run(remote.user, "crm", "somebody")
    assert refused.returncode == 1 and refused.stderr.startswith("forbidden: "), refused
    refused = run(remote.user, "crm", url="https://localhost")
    assert refused.returncode == 1 and refused.stderr.startswith("config_error: "), refused
