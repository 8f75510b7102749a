"""The configuration store: named properties of an application, masked ones for its users only."""

import json
import threading

import pytest

from installation import Installation

ALL = {"url": "https://host", "retries": "3", "token": "s3cret-ü"}


class House:
    def __init__(self, installation, people):
        self.it = installation
        groups = {role: people.group(role) for role in ("admins", "users", "readers", "affiliate")}
        self.person = {role: people.user(group) for role, group in groups.items()}
        self.person["stranger"] = people.user()
        installation.write_config(roles={"affiliate_admins": groups["affiliate"]})
        installation.init()
        installation.config.chmod(0o644)
        installation.start()
        for name in ("conf", "empty"):
            installation.sso("app", "create", name, "--type", "config", "--field", "url", "--field",
                             "retries", "--field", "token:masked", "--admins", groups["admins"],
                             "--users", groups["users"], "--readers", groups["readers"], check=0)
            installation.sso("app", "enable", name, check=0)
        installation.create_app("creds", users=groups["users"])

    def api(self, role, method, body=None, app="conf", **options):
        uid = None if role == "sso_admin" else self.person[role].pw_uid
        return self.it.api(method, f"/v1/apps/{app}/config", body, uid=uid, **options)

    def put(self, properties, role="admins", **options):
        return self.api(role, "PUT", {"properties": properties}, **options)

    def patch(self, properties, role="admins", **options):
        return self.api(role, "PATCH", {"properties": properties}, **options)

    def get(self, role="users"):
        return self.api(role, "GET", status=200).json["properties"]


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


def test_masked_for_those_who_use_it(house):
    house.put(ALL)
    for role in ("admins", "users", "readers"):
        assert house.get(role) == ALL
    for role in ("sso_admin", "affiliate"):
        reply = house.api(role, "GET", status=200).json
        assert reply["properties"] == {"url": "https://host", "retries": "3"}
        assert reply["left_out"] == ["token"]
    assert house.api("stranger", "GET").status == 403


def test_who_may_write(house):
    house.put(ALL)
    for role in ("users", "readers", "stranger"):
        for reply in (house.put(ALL, role), house.patch({"url": "x"}, role),
                      house.api(role, "DELETE")):
            assert reply.status == 403, (role, reply)
    for role in ("sso_admin", "affiliate", "admins"):
        house.patch({"url": f"by {role}"}, role, status=200)
        assert house.get() == {**ALL, "url": f"by {role}"}


def test_partial_update_and_versions(house):
    house.put(ALL)
    etag = house.api("users", "GET").headers["ETag"]
    changed = house.patch({"retries": "4"}, status=200, headers={"If-Match": etag})
    assert house.get() == {**ALL, "retries": "4"}, "what was not named stays, masked or not"
    assert changed.json["version"] == int(etag.strip('"')) + 1
    for reply in (house.patch({"retries": "5"}, headers={"If-Match": etag}),
                  house.put(ALL, headers={"If-Match": etag}),
                  house.api("admins", "DELETE", headers={"If-Match": etag})):
        assert reply.status == 412 and reply.code == "version_conflict"
    assert house.get() == {**ALL, "retries": "4"}


@pytest.mark.parametrize("method, body", [
    ("PUT", None), ("PUT", {}), ("PUT", {"properties": {}}), ("PUT", {"properties": {"url": "x"}}),
    ("PUT", {"properties": {**ALL, "surplus": "x"}}), ("PUT", {"properties": {**ALL, "url": 5}}),
    ("PUT", {"properties": ALL, "surplus": 1}), ("PUT", {"properties": {**ALL, "url": "x" * 65537}}),
    ("PATCH", {"properties": {}}), ("PATCH", {"properties": {"surplus": "x"}}),
    ("PATCH", {"properties": {"url": None}}), ("PATCH", {"properties": ["url"]})])
def test_bad_input_changes_nothing(house, method, body):
    house.put(ALL)
    version = house.api("users", "GET").headers["ETag"]
    reply = house.api("admins", method, body)
    assert reply.status == 400 and reply.code == "bad_request", reply
    assert "s3cret" not in str(reply.body)
    assert house.get() == ALL and house.api("users", "GET").headers["ETag"] == version


def test_before_and_after(house):
    assert house.api("users", "GET", app="empty").code == "not_found"
    assert house.patch({"url": "x"}, app="empty").code == "not_found", "the first time needs all"
    assert house.api("admins", "DELETE", app="empty").code == "not_found"
    house.put(ALL, app="empty", status=201)
    house.api("admins", "DELETE", app="empty", status=204)
    assert house.api("users", "GET", app="empty").code == "not_found"
    house.put(ALL, app="empty", status=201)
    house.api("admins", "DELETE", app="empty", status=204)
    house.it.check_open()


def test_disabled(house):
    house.put(ALL)
    house.it.sso("app", "disable", "conf", check=0)
    assert house.api("users", "GET").code == "application_disabled"
    assert house.put(ALL).code == "application_disabled"
    house.it.sso("app", "enable", "conf", check=0)
    assert house.get() == ALL


def test_neither_is_the_other(house):
    """Configuration is not reached as a credential, credentials not as configuration."""
    house.put(ALL)
    it, reader = house.it, house.person["readers"].pw_uid
    assert it.api("POST", "/v1/lookup", {"app": "conf", "principal": "config"}, uid=reader).code == "bad_request"
    for method, path, body in (
            ("PUT", "credentials/config", {"fields": ALL}), ("DELETE", "credentials/config", None),
            ("GET", "credentials/config", None), ("GET", "credentials", None),
            ("POST", "credentials:batch", {"items": [{"principal": "config", "fields": ALL}]}),
            ("GET", "mappings/config", None), ("PUT", "mappings/config", {"enabled": False}),
            ("DELETE", "mappings/config", None), ("GET", "mappings", None)):
        assert it.api(method, f"/v1/apps/conf/{path}", body).code == "bad_request", (method, path)
    for method, body in (("GET", None), ("PUT", {"properties": {"user": "u", "password": "p"}}),
                         ("PATCH", {"properties": {"user": "u"}}), ("DELETE", None)):
        assert house.api("sso_admin", method, body, app="creds").code == "bad_request"
    assert house.get() == ALL


def test_concurrent_partial_updates_lose_nothing(house):
    """Each writer changes a property of its own, without If-Match."""
    house.put(ALL)

    # One connection at a time changes the effective user: as the caller itself, then.
    def write_as_me(label):
        for n in range(20):
            house.it.api("PATCH", "/v1/apps/conf/config", {"properties": {label: f"{label}-{n}"}},
                         status=200)

    threads = [threading.Thread(target=write_as_me, args=[label]) for label in ALL]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert house.get() == {label: f"{label}-19" for label in ALL}


def test_rotation_moves_it(house):
    house.put(ALL)
    before = house.api("users", "GET").json
    house.it.sso("rotate", "--no-backup", check=0)
    after = house.api("users", "GET").json
    assert after["properties"] == ALL and after["version"] == before["version"]
    assert after["generation"] == before["generation"] + 1
    house.it.check_open()


def test_audit_names_what_was_done(house):
    house.put(ALL)
    house.patch({"url": "y"}, status=200)
    house.get()
    records = [(each["operation"], each["target"], each["outcome"], each["row_version"])
               for each in house.it.sso("audit", "export", check=0).lines][-3:]
    version = house.api("users", "GET").json["version"]
    assert records == [("config.set", "conf", "ok", version - 1), ("config.update", "conf", "ok", version),
                       ("config.get", "conf", "ok", version)]


def test_the_tool(house):
    done = house.it.sso("config", "set", "conf", "--stdin", data=json.dumps(ALL), check=0).json
    house.it.sso("config", "set", "conf", "--stdin", "--partial", data='{"retries":"9"}',
                 user=house.person["admins"], check=0)
    shown = house.it.sso("config", "get", "conf", user=house.person["users"], check=0).json
    assert shown["properties"] == {**ALL, "retries": "9"} and shown["version"] == done["version"] + 1
    text = house.it.sso("config", "get", "conf", as_json=False, check=0).out
    assert "retries: 9" in text and "token (masked, left out)" in text and "s3cret" not in text
    assert house.it.sso("config", "set", "conf", "--partial").code == 2
    assert house.it.sso("config", "set", "conf", "url", "--stdin").code == 2
    assert house.it.sso("config", "set", "conf", data="").code == 2
    house.it.sso("config", "delete", "conf", check=0)
    assert house.it.sso("config", "get", "conf").problem["code"] == "not_found"
