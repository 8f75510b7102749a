"""Mappings: enabled, disabled by the user, disabled by an administrator; lists."""

import json

import pytest

from installation import Installation


class House:
    def __init__(self, installation, people):
        self.it = installation
        users, admins = people.group("users"), people.group("admins")
        self.user, self.admin, self.other = people.user(users), people.user(admins), people.user(users)
        self.me = self.user.pw_name
        installation.init()
        installation.config.chmod(0o644)
        installation.start()
        for name in ("app", "second"):
            installation.create_app(name, users=users, admins=admins)
        installation.create_app("foreign")

    def api(self, person, method, path, body=None, **options):
        return self.it.api(method, path, body, uid=person.pw_uid, **options)

    def credential(self, app="app"):
        return f"/v1/apps/{app}/credentials/{self.me}"

    def mapping(self, app="app"):
        return f"/v1/apps/{app}/mappings/{self.me}"

    def set_own(self, password, app="app", **options):
        return self.api(self.user, "PUT", self.credential(app),
                        {"fields": {"user": "u", "password": password}}, **options)

    def look_up(self, app="app"):
        return self.api(self.user, "POST", "/v1/lookup", {"app": app})


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


def test_self_service(house):
    house.set_own("x", status=201)
    assert house.look_up().json["fields"]["password"] == "x"
    assert house.api(house.user, "PUT", house.mapping(), {"enabled": False}, status=200).json[
        "state"] == "disabled_by_user"
    assert house.look_up().code == "mapping_disabled"
    house.api(house.user, "PUT", house.mapping(), {"enabled": True}, status=200)
    assert house.look_up().status == 200
    other = house.mapping().replace(house.me, house.other.pw_name)
    assert house.api(house.user, "PUT", other, {"enabled": False}).status == 403


def test_what_an_administrator_disabled_the_user_cannot_undo(house):
    """Neither by the mapping, nor by taking the credential away and setting it anew."""
    house.set_own("x")
    house.api(house.admin, "PUT", house.mapping(), {"enabled": False}, status=200)
    assert house.api(house.user, "PUT", house.mapping(), {"enabled": True}).code == "mapping_disabled"
    assert house.api(house.user, "PUT", house.mapping(), {"enabled": False}, status=200).json[
        "state"] == "disabled_by_admin"
    assert house.api(house.user, "DELETE", house.credential()).status == 403
    assert house.api(house.user, "DELETE", house.mapping()).status == 403
    house.set_own("y", status=200)
    assert house.look_up().code == "mapping_disabled"
    house.api(house.admin, "DELETE", house.credential(), status=204)
    house.set_own("z", status=201)
    assert house.look_up().code == "mapping_disabled", "the mapping outlives the credential"
    assert house.api(house.admin, "GET", house.mapping()).json["state"] == "disabled_by_admin"
    house.api(house.admin, "PUT", house.mapping(), {"enabled": True}, status=200)
    assert house.look_up().json["fields"]["password"] == "z"


def test_a_mapping_before_the_credential(house):
    """An administrator maps somebody; the external user is for the first credential."""
    house.it.sso("mapping", "enable", "second", house.me, "--external-user", "EXT1", check=0,
                 user=house.admin)
    assert house.look_up("second").code == "not_found"
    house.set_own("x", "second", status=201)
    assert house.look_up("second").json["external_user"] == "EXT1"
    house.set_own("y", "second", status=200)
    assert house.look_up("second").json["external_user"] == "EXT1", "stays as it was"
    reply = house.api(house.user, "PUT", house.mapping("second"), {"enabled": True, "external_user": "root"})
    assert reply.status == 400
    house.api(house.admin, "DELETE", house.mapping("second"), status=204)
    assert house.look_up("second").status == 404
    refused = house.api(house.user, "PUT", house.mapping("second"), {"enabled": True})
    assert refused.status == 404, "a user is mapped by an administrator or by a credential"
    house.api(house.admin, "PUT", house.mapping("second"), {"enabled": False}, status=201)
    house.set_own("x", "second", status=201)
    assert house.look_up("second").code == "mapping_disabled"
    assert house.api(house.admin, "GET", house.credential("second")).json["external_user"] == house.me
    house.api(house.admin, "DELETE", house.mapping("second"), status=204)


def test_versions(house):
    house.set_own("x")
    etag = house.api(house.admin, "GET", house.mapping()).headers["ETag"]
    house.api(house.admin, "PUT", house.mapping(), {"enabled": False}, headers={"If-Match": etag},
              status=200)
    late = house.api(house.admin, "PUT", house.mapping(), {"enabled": True}, headers={"If-Match": etag})
    assert late.status == 412 and late.code == "version_conflict"
    house.api(house.admin, "PUT", house.mapping(), {"enabled": True}, status=200)
    gone = house.mapping().replace(house.me, "nobody-yet")
    assert house.api(house.admin, "PUT", gone, {"enabled": True}, headers={"If-Match": '"1"'}).status == 404


def test_lists(house):
    house.set_own("x")
    house.set_own("x", "second")
    mine = house.it.sso("mapping", "list", user=house.user, check=0).json["mappings"]
    assert {(each["app"], each["principal"]) for each in mine} == {
        ("app", house.me), ("second", house.me)}
    as_admin = house.it.sso("mapping", "list", "--principal", house.me, user=house.admin, check=0).json
    assert as_admin["mappings"] == mine
    assert house.it.sso("mapping", "list", "--principal", house.me, user=house.other, check=4).code == 4
    house.api(house.admin, "PUT", house.mapping(), {"enabled": False}, status=200)
    text = house.it.sso("mapping", "list", "app", user=house.admin, as_json=False, check=0).out
    assert f"(D) app/{house.me}  {house.me}  disabled_by_admin" in text
    house.api(house.admin, "PUT", house.mapping(), {"enabled": True}, status=200)
    text = house.it.sso("mapping", "list", "app", user=house.admin, as_json=False, check=0).out
    assert f"(E) app/{house.me}" in text
    assert house.it.sso("mapping", "list", "foreign", user=house.admin).code == 4
    assert house.it.sso("mapping", "list", "app", "--principal", "x").code == 2


def test_pages(house):
    items = [{"principal": f"p{n:04}", "external_user": f"e{n}",
              "fields": {"user": "u", "password": "p"}} for n in range(1000)]
    house.it.api("POST", "/v1/apps/foreign/credentials:batch", {"items": items}, status=200)
    house.it.api("PUT", "/v1/apps/foreign/mappings/q", {"enabled": True}, status=201)
    seen, after = [], ""
    while after is not None:
        page = house.it.api("GET", f"/v1/apps/foreign/mappings?limit=300&after={after}", status=200).json
        assert len(page["mappings"]) <= 300
        seen += page["mappings"]
        after = page["next"]
    assert [each["principal"] for each in seen] == [f"p{n:04}" for n in range(1000)] + ["q"]
    assert seen[7]["external_user"] == "e7" and seen[7]["credential"] and not seen[-1]["credential"]
    listed = json.loads(house.it.sso("mapping", "list", "foreign", check=0).out)
    assert listed["mappings"] == seen
    for bad in ("limit=0", "limit=1001", "limit=x"):
        assert house.it.api("GET", f"/v1/apps/foreign/mappings?{bad}").status == 400


def test_a_damaged_mapping_is_shown_as_damaged(house):
    house.set_own("x")
    with house.it.sql() as database:
        where = "application_id = (SELECT id FROM applications WHERE name = 'app') AND principal = ?"
        tag = database.execute(f"SELECT tag FROM mappings WHERE {where}", [house.me]).fetchone()[0]
        database.execute(f"UPDATE mappings SET tag = zeroblob(32) WHERE {where}", [house.me])
    listed = house.it.sso("mapping", "list", "app", check=0).json["mappings"]
    assert [each["state"] for each in listed if each["principal"] == house.me] == ["damaged"]
    mine = house.api(house.user, "GET", "/v1/mappings").json["mappings"]
    assert {each["state"] for each in mine if each["app"] == "app"} == {"damaged"}
    with house.it.sql() as database:
        database.execute(f"UPDATE mappings SET tag = ? WHERE {where}", [tag, house.me])
