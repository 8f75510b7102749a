"""Group applications: one external account shared by a group; the first group of the application's
order that holds the caller wins."""

import pytest

from installation import MY_GROUP, Installation


class House:
    def __init__(self, installation, people):
        self.it = installation
        self.first, self.second = people.group("first"), people.group("second")
        self.services, self.keepers = people.group("services"), people.group("keepers")
        self.both = people.user(self.first, self.second)
        self.in_second = people.user(self.second)
        self.outside = people.user()
        self.service, self.keeper = people.user(self.services), people.user(self.keepers)
        installation.init()
        installation.config.chmod(0o644)
        installation.start()
        installation.sso("app", "create", "shared", "--type", "group", "--field", "user", "--field",
                         "password:masked", "--users", f"{self.first},{self.second}", "--readers",
                         self.services, "--admins", self.keepers, check=0)
        installation.sso("app", "enable", "shared", check=0)
        self.put(self.first, "of the first", status=201)
        self.put(self.second, "of the second", status=201)

    def put(self, group, password, **options):
        return self.it.put("shared", group, password, **options)

    def look_up(self, person, principal=None):
        body = {"app": "shared"} if principal is None else {"app": "shared", "principal": principal}
        return self.it.api("POST", "/v1/lookup", body, uid=person.pw_uid)


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


def test_the_first_group_that_holds_the_caller_wins(house):
    found = house.look_up(house.both).json
    assert found["principal"] == house.first and found["fields"]["password"] == "of the first"
    found = house.look_up(house.in_second).json
    assert found["principal"] == house.second and found["fields"]["password"] == "of the second"
    house.it.api("PATCH", "/v1/apps/shared", {"users": [house.second, house.first]}, status=200)
    assert house.look_up(house.both).json["principal"] == house.second
    house.it.api("PATCH", "/v1/apps/shared", {"users": [house.first, house.second]}, status=200)


def test_nothing_falls_through_to_a_later_group(house):
    """The answer must not depend on what another group happens to have."""
    path = f"/v1/apps/shared/mappings/{house.first}"
    house.it.api("PUT", path, {"enabled": False}, status=200)
    assert house.look_up(house.both).code == "mapping_disabled"
    assert house.look_up(house.in_second).status == 200
    house.it.api("PUT", path, {"enabled": True}, status=200)
    house.it.api("DELETE", f"/v1/apps/shared/credentials/{house.first}", status=204)
    assert house.look_up(house.both).code == "not_found"
    house.put(house.first, "of the first", status=201)


def test_others_get_only_what_is_theirs(house):
    assert house.look_up(house.outside).status == 403
    assert house.look_up(house.in_second, house.first).status == 403
    assert house.look_up(house.both, house.second).status == 403, "the first group wins"
    assert house.look_up(house.both, house.first).status == 200
    assert house.look_up(house.service, house.second).json["fields"]["password"] == "of the second"
    assert house.look_up(house.service).status == 404, "a reader, but in none of the groups"
    assert house.look_up(house.keeper, house.first).status == 403


def test_members_change_nothing(house, people):
    """A shared credential is nobody's own, also where a user is called like the group."""
    for method, path, body in (
            ("PUT", f"/v1/apps/shared/credentials/{house.both.pw_name}",
             {"external_user": "e", "fields": {"user": "u", "password": "p"}}),
            ("PUT", f"/v1/apps/shared/credentials/{house.first}",
             {"external_user": "e", "fields": {"user": "u", "password": "p"}}),
            ("GET", f"/v1/apps/shared/credentials/{house.first}", None),
            ("PUT", f"/v1/apps/shared/mappings/{house.first}", {"enabled": False}),
            ("PUT", f"/v1/apps/shared/mappings/{house.both.pw_name}", {"enabled": False})):
        assert house.it.api(method, path, body, uid=house.both.pw_uid).status == 403, (method, path)
    namesake = house.in_second.pw_name
    house.it.api("PATCH", "/v1/apps/shared", {"users": [house.first, house.second, namesake]}, status=200)
    house.put(namesake, "of a group of that name", status=201)
    reply = house.it.api("PUT", f"/v1/apps/shared/credentials/{namesake}",
                         {"external_user": "e", "fields": {"user": "u", "password": "p"}},
                         uid=house.in_second.pw_uid)
    assert reply.status == 403
    assert house.look_up(house.in_second, namesake).status == 403
    assert house.look_up(house.in_second).json["principal"] == house.second


def test_only_the_groups_have_credentials(house):
    refused = house.put("somebody", "x")
    assert refused.status == 400 and refused.code == "bad_request"
    items = [{"principal": each, "external_user": "e", "fields": {"user": "u", "password": "of the second"}}
             for each in ("somebody", house.second)]
    done = house.it.api("POST", "/v1/apps/shared/credentials:batch", {"items": items}, status=200).json
    assert [each.get("code") for each in done["items"]] == ["bad_request", None]
    refused = house.it.api("PUT", "/v1/apps/shared/mappings/somebody", {"enabled": True})
    assert refused.status == 400


def test_the_audit_names_the_person_and_the_group(house):
    house.look_up(house.both)
    last = [each for each in house.it.sso("audit", "export", check=0).lines
            if each["operation"] == "credential.lookup"][-1]
    assert last["actor"] == house.both.pw_name and last["target"] == f"shared/{house.first}"


def test_the_tool(house):
    given = house.it.sso("cred", "get", "shared", user=house.both, check=0).json
    assert given["principal"] == house.first
