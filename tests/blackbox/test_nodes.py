"""Nodes: who joined, who was approved and by which key, who was taken out."""

import subprocess

import pytest

from authority import Authority
from installation import MY_GROUP, wait_for


@pytest.fixture
def cluster(running, tmp_path):
    """A master, and a second host's configuration over the same database."""
    running.ca = Authority(tmp_path / "ca")
    running.node2 = running.ca.issue("node2", "DNS:node2.sso.example")
    running.other = running.ca.issue("other", "DNS:node3.sso.example")

    def join(name="node2", certificate=None, check=0):
        certificate = certificate or running.node2
        own, running.config = running.config, tmp_path / "second.conf"
        kept = {section: dict(values) for section, values in running.settings.items()}
        (tmp_path / f"state-{name}").mkdir(exist_ok=True)
        running.write_config(cluster={"node": name, "address": f"{name}.sso.example:8443"},
                             system={"state_directory": tmp_path / f"state-{name}"},
                             tls=certificate.section())
        try:
            return running.sso("node", "join", check=check)
        finally:
            running.settings, running.config = kept, own

    running.join = join
    return running


def listed(it):
    return {node["name"]: node for node in it.sso("node", "list", check=0).json["nodes"]}


def fingerprint_by_openssl(certificate):
    done = subprocess.run(f"openssl x509 -in {certificate.file} -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum",
                          shell=True, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_join_approve_remove(cluster):
    assert cluster.sso("node", "list", check=0).json == {"nodes": []}
    joined = cluster.join().json
    assert joined["joined"] and not joined["approved"]
    assert joined["fingerprint"] == fingerprint_by_openssl(cluster.node2)
    again = cluster.join().json
    assert not again["joined"] and again["fingerprint"] == joined["fingerprint"]
    node = listed(cluster)["node2"]
    assert not node["approved"] and node["fingerprint"] == joined["fingerprint"] and node["up"] is None
    assert node["address"] == "node2.sso.example:8443"

    wrong = cluster.sso("node", "approve", "node2", "--fingerprint", "0" * 64)
    assert wrong.code == 1 and wrong.problem["code"] == "version_conflict", wrong
    assert cluster.sso("node", "approve", "node2").code == 2
    assert cluster.sso("node", "approve", "node2", "--fingerprint", "12").problem["code"] == "bad_request"
    assert cluster.sso("node", "approve", "node9", "--fingerprint", "0" * 64).problem["code"] == "not_found"
    assert not listed(cluster)["node2"]["approved"]

    approved = cluster.sso("node", "approve", "node2", "--fingerprint", joined["fingerprint"], "--apps", "crm,payroll",
                           "--release-burst", "50", check=0).json
    assert approved["approved"] and approved["apps"] == ["crm", "payroll"] and approved["release_burst"] == 50
    assert listed(cluster)["node2"] == approved and approved["approved_by"] and approved["approved_at"]
    assert cluster.join().json["approved"]
    changed = cluster.sso("node", "approve", "node2", "--fingerprint", joined["fingerprint"], check=0).json
    assert changed["apps"] == [] and changed["release_burst"] is None

    cluster.sso("node", "remove", "node2", check=0)
    assert cluster.sso("node", "remove", "node2").problem["code"] == "not_found"
    assert listed(cluster) == {}
    records = [(r["operation"], r["target"], r["outcome"]) for r in cluster.sso("audit", "export", check=0).lines]
    assert ("node.approve", "node node2", "ok") in records and ("node.approve", "node node2", "version_conflict") in records
    assert ("node.remove", "node node2", "ok") in records
    joins = cluster.sso("audit", "export", "--node", "node2", check=0).lines
    assert [record["operation"] for record in joins].count("node.join") == 1
    assert cluster.sso("audit", "verify", check=0).json["ok"]


def test_a_key_is_pinned(cluster):
    """Neither another key under an approved name nor the same key under another name."""
    fingerprint = cluster.join().json["fingerprint"]
    # Before the approval whoever joins anew replaces what was there.
    second = cluster.join(certificate=cluster.other).json["fingerprint"]
    assert second != fingerprint
    assert cluster.sso("node", "approve", "node2", "--fingerprint", fingerprint).problem["code"] == "version_conflict"
    cluster.sso("node", "approve", "node2", "--fingerprint", second, check=0)
    refused = cluster.join(check=1).problem
    assert refused["code"] == "already_exists" and "node remove node2" in refused["detail"]
    refused = cluster.join(name="node3", certificate=cluster.other, check=1).problem
    assert refused["code"] == "already_exists" and "node2" in refused["detail"]
    assert listed(cluster)["node2"]["fingerprint"] == second


def test_the_row_is_authenticated(cluster):
    """Who writes the database approves nobody, and changes nothing of who is approved."""
    fingerprint = cluster.join().json["fingerprint"]
    with cluster.sql() as sql:
        sql.execute("UPDATE nodes SET approved = 1")
    node = listed(cluster)["node2"]
    assert node["damaged"] and not node["approved"]
    with cluster.sql() as sql:
        sql.execute("UPDATE nodes SET approved = 0")
    cluster.sso("node", "approve", "node2", "--fingerprint", fingerprint, "--apps", "crm", check=0)
    for change in ("apps = ''", "public_key = zeroblob(32)", "release_burst = 7", "name = 'node3'"):
        with cluster.sql() as sql:
            before = dict(sql.execute("SELECT * FROM nodes").fetchone())
            sql.execute(f"UPDATE nodes SET {change}")
        node = next(iter(listed(cluster).values()))
        assert node["damaged"] and not node["approved"], change
        with cluster.sql() as sql:
            columns = ", ".join(f"{column} = :{column}" for column in before)
            sql.execute(f"UPDATE nodes SET {columns}", before)
    assert listed(cluster)["node2"]["approved"]
    assert "policy_tampered" in cluster.log_text()


def test_an_older_approval_does_not_come_back(cluster):
    """Neither the row of a node that was removed nor, with it, the number of its time."""
    cluster.sso("node", "approve", "node2", "--fingerprint", cluster.join().json["fingerprint"], check=0)
    other = cluster.join(name="node3", certificate=cluster.other).json["fingerprint"]
    cluster.sso("node", "approve", "node3", "--fingerprint", other, "--apps", "crm", check=0)
    with cluster.sql() as sql:
        row = dict(sql.execute("SELECT * FROM nodes WHERE name = 'node2'").fetchone())
        number = dict(sql.execute("SELECT * FROM settings WHERE name = 'system.revocation'").fetchone())

    def put(table, values):
        with cluster.sql() as sql:
            names = ", ".join(values)
            places = ", ".join(f":{name}" for name in values)
            sql.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})", values)

    cluster.sso("node", "remove", "node2", check=0)
    put("nodes", row)
    nodes = listed(cluster)
    assert nodes["node2"]["damaged"] and not nodes["node2"]["approved"]
    assert nodes["node3"]["approved"] and nodes["node3"]["apps"] == ["crm"]
    again = cluster.sso("node", "approve", "node2", "--fingerprint", nodes["node2"]["fingerprint"], check=0).json
    assert again["approved"] and listed(cluster)["node2"]["approved"]

    cluster.sso("node", "remove", "node2", check=0)
    cluster.restart()  # so that the new number is on record
    put("nodes", row)
    put("settings", number)
    cluster.stop()
    cluster.start(wait=None)
    wait_for(lambda: "database_went_back" in [event["name"] for event in cluster.api("GET", "/v1/health").json["events"]],
             "an older number is noticed")


def test_join_wants_a_certificate(running, tmp_path):
    refused = running.sso("node", "join", check=1).problem
    assert refused["code"] == "config_error" and "[tls] certificate" in refused["detail"]
    nothing = tmp_path / "nothing.crt"
    nothing.write_text("nothing\n")
    running.write_config(tls={"certificate": nothing})
    refused = running.sso("node", "join", check=1).problem
    assert refused["code"] == "config_error" and str(nothing) in refused["detail"]
    running.write_config(tls={"certificate": None}, roles={"sso_admins": f"no-{MY_GROUP}"})
    assert running.sso("node", "join").code == 4
