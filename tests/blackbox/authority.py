"""A certification authority of a test, made with openssl, and connections over TLS."""

import contextlib
import datetime
import socket
import ssl
import subprocess
import time
from pathlib import Path

from installation import PATIENCE_SECONDS, Connection

CONFIG = """
[ca]
default_ca = own
[own]
dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[ca_extensions]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
"""


def stamp(days):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return when.strftime("%Y%m%d%H%M%SZ")


class Authority:
    def __init__(self, folder, name="test CA", days=(-1, 400), parent=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.config = self.folder / "ca.cnf"
        self.config.write_text(CONFIG.format(folder=self.folder))
        (self.folder / "index.txt").touch()
        (self.folder / "serial").write_text("1000\n")
        (self.folder / "crlnumber").write_text("01\n")
        self.certificate = self.folder / "ca.crt"
        key, request = self.key_and_request("ca", name)
        signer = parent or self
        signer.sign(request, self.certificate, days, extensions="ca_extensions",
                    selfsign=None if parent else key)

    def openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                              check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def key_and_request(self, file, name):
        key, request = self.folder / f"{file}.key", self.folder / f"{file}.csr"
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-keyout", key, "-out", request, "-subj", f"/CN={name}", "-config", self.config)
        key.chmod(0o400)
        return key, request

    def sign(self, request, out, days, extensions, selfsign=None, extfile=None):
        self.openssl("ca", "-batch", "-notext", "-config", self.config, "-in", request, "-out", out,
                     "-startdate", stamp(days[0]), "-enddate", stamp(days[1]), "-extensions", extensions,
                     *(["-extfile", extfile] if extfile else []),
                     *(["-selfsign", "-keyfile", selfsign] if selfsign else []))

    def issue(self, file, *names, days=(-1, 100), usage="serverAuth,clientAuth"):
        """A certificate with these subject alternative names: "DNS:…", "URI:…", "IP:…"."""
        key, request = self.key_and_request(file, file)
        extfile = self.folder / f"{file}.ext"
        extfile.write_text("[leaf]\nbasicConstraints = CA:FALSE\n"
                           + (f"extendedKeyUsage = {usage}\n" if usage else "")
                           + (f"subjectAltName = {','.join(names)}\n" if names else ""))
        out = self.folder / f"{file}.crt"
        self.sign(request, out, days, "leaf", extfile=extfile)
        return Certificate(out, key, self.certificate)

    def revocation_list(self, *revoked, out="ca.crl", seconds=None):
        for certificate in revoked:
            self.openssl("ca", "-config", self.config, "-revoke", certificate.file)
        path = self.folder / out
        until = ["-crlsec", str(seconds)] if seconds else ["-crldays", "30"]
        self.openssl("ca", "-config", self.config, "-gencrl", *until, "-out", path)
        return path


class Certificate:
    def __init__(self, file, key, ca):
        self.file, self.key, self.ca = file, key, ca

    def context(self, check_name=True):
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = check_name
        context.load_cert_chain(self.file, self.key)
        return context

    def section(self, **more):
        return {"certificate": self.file, "key": self.key, "ca": self.ca, **more}


class TlsConnection(Connection):
    """To 127.0.0.1:port as whoever the certificate says."""

    def __init__(self, port, context, name="localhost", timeout=PATIENCE_SECONDS):
        super().__init__("", timeout=timeout)
        self.tls_port, self.context, self.name = port, context, name

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.tls_port), self.timeout)
        try:
            self.sock = self.context.wrap_socket(plain, server_hostname=self.name)
        except BaseException:
            plain.close()
            raise


def tls_port(installation):
    """Where the custodian of now listens: it was told to choose a free port."""
    lines = [line for line in installation.log.read_text().splitlines()
             if "the TLS listener has its place" in line]
    return int(lines[-1].rsplit(":", 1)[1].rstrip('"'))


def tls_call(installation, certificate, method, path, body=None, status=None, **options):
    connection = TlsConnection(tls_port(installation), certificate.context(), **options)
    with contextlib.closing(connection):
        reply = connection.call(method, path, body)
    assert status is None or reply.status == status, f"{method} {path}: {reply}"
    return reply


def with_tls(installation, authority, **more):
    """Configures a listener with a certificate for localhost."""
    node = authority.issue("node", "DNS:localhost", "IP:127.0.0.1", **more)
    installation.write_config(listen={"tls": "127.0.0.1:0"}, tls=node.section())
    return node
