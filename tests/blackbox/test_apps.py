"""Applications: made disabled, listed, changed, purged, deleted."""

import pytest


def names(installation):
    return [app["name"] for app in installation.sso("app", "list", check=0).json["apps"]]


def test_life_of_an_application(initialised):
    it = initialised.start()
    made = it.sso("app", "create", "Billing.v1", "--type", "individual", "--field", "user",
                  "--field", "password:masked", "--readers", "root", check=0).json
    assert made["name"] == "Billing.v1" and made["type"] == "individual"
    assert made["enabled"] is False
    assert made["fields"] == [{"label": "user", "masked": False},
                              {"label": "password", "masked": True}]
    refused = it.put("Billing.v1", "anna", "x")
    assert refused.status == 409 and refused.code == "application_disabled"
    assert it.sso("app", "enable", "billing.V1", check=0).json["enabled"] is True
    it.put("Billing.v1", "anna", "x", status=201)
    assert it.sso("app", "show", "BILLING.V1", check=0).json["name"] == "Billing.v1"
    assert it.sso("app", "disable", "Billing.v1", check=0).json["enabled"] is False
    assert it.look_up("Billing.v1", "anna").code == "application_disabled"
    it.sso("app", "enable", "Billing.v1", check=0)
    assert it.password("Billing.v1", "anna") == "x"
    purged = it.sso("app", "purge", "Billing.v1", check=0).json
    assert purged["credentials"] == 1
    assert it.look_up("Billing.v1", "anna").status == 404
    it.put("Billing.v1", "anna", "y", status=201)
    assert it.sso("app", "delete", "Billing.v1", check=0).json["credentials"] == 1
    assert names(it) == []
    assert it.look_up("Billing.v1", "anna").status in (403, 404)
    it.check_open()


def test_update_changes_what_may_change(running):
    changed = running.sso("app", "update", "app", "--description", "Löhne", "--contact", "ops@x",
                          check=0).json
    assert changed["description"] == "Löhne" and changed["contact"] == "ops@x"
    for member in ("name", "type", "fields"):
        reply = running.api("PATCH", "/v1/apps/app", {member: "other"})
        assert reply.status == 400 and reply.code == "bad_request", member
    assert running.sso("app", "show", "app", check=0).json["description"] == "Löhne"


def test_name_is_unique_without_regard_to_case(running):
    again = running.sso("app", "create", "APP", "--type", "individual", "--field", "user")
    assert again.code == 1 and again.problem["code"] == "already_exists"
    assert names(running) == ["app"]


@pytest.mark.parametrize("name", ["", "a" * 65, "a/b", "ü", "a b", "a\n"])
def test_bad_name(shared, name):
    reply = shared.api("POST", "/v1/apps", {"name": name, "type": "individual",
                                            "fields": [{"label": "user"}]})
    assert reply.status == 400 and reply.code == "bad_request"


@pytest.mark.parametrize("body", [
    {"name": "n", "type": "individual"},
    {"name": "n", "type": "individual", "fields": []},
    {"name": "n", "type": "nonsense", "fields": [{"label": "a"}]},
    {"name": "n", "type": "individual", "fields": [{"label": "a"}, {"label": "a"}]},
    {"name": "n", "type": "individual", "fields": [{"label": ""}]},
    {"name": "n", "type": "individual", "fields": [{"label": "x" * 65}]},
    {"name": "n", "type": "individual", "fields": [{"label": f"f{n}"} for n in range(33)]},
    {"name": "n", "type": "individual", "fields": [{"label": "a", "surplus": 1}]},
    {"name": "n", "type": "individual", "fields": [{"label": "a"}], "surplus": 1},
    {"name": 5, "type": "individual", "fields": [{"label": "a"}]},
    {"name": "n", "type": "individual", "fields": "a"},
    {"name": "n", "type": "individual", "fields": [{"label": "a"}], "readers": 7},
    {"name": "n", "type": "individual", "fields": [{"label": "a"}], "users": ["g"] * 17},
    {"type": "individual", "fields": [{"label": "a"}]},
    [], "text", 5, None,
])
def test_bad_application(shared, body):
    reply = shared.api("POST", "/v1/apps", body)
    assert reply.status == 400 and reply.code == "bad_request", reply
    assert names(shared) == ["app"]


def test_32_fields(running):
    running.create_app("wide", fields=[f"f{n}" for n in range(32)])
    fields = {f"f{n}": f"value {n}" for n in range(32)}
    running.api("PUT", "/v1/apps/wide/credentials/anna",
                {"external_user": "a", "fields": fields}, status=201)
    assert running.look_up("wide", "anna", status=200).json["fields"] == fields


def test_no_such_application(shared):
    for method, path in [("GET", "/v1/apps/none"), ("DELETE", "/v1/apps/none"),
                         ("POST", "/v1/apps/none/purge"), ("GET", "/v1/apps/none/credentials"),
                         ("GET", "/v1/apps/none/credentials/anna")]:
        reply = shared.api(method, path)
        assert reply.status == 404 and reply.code == "not_found", (method, path)


def test_mappings(running):
    running.put("app", "anna", "x", status=201)
    path = "/v1/apps/app/mappings/anna"
    assert running.api("GET", path, status=200).json["state"] == "enabled"
    running.sso("mapping", "disable", "app", "anna", check=0)
    assert running.api("GET", path).json["state"] == "disabled_by_admin"
    refused = running.look_up("app", "anna")
    assert refused.status == 409 and refused.code == "mapping_disabled"
    running.sso("mapping", "enable", "app", "anna", check=0)
    assert running.password("app", "anna") == "x"
    running.sso("mapping", "delete", "app", "anna", check=0)
    assert running.look_up("app", "anna").status == 404
    running.check_open()


def test_export_of_a_disabled_application_stops_at_once(running):
    for n in range(3):
        running.put("app", f"p{n}", "secret", status=201)
    running.sso("app", "disable", "app", check=0)
    done = running.sso("cred", "export", "app", check=1)
    assert done.out == "" and len(done.err.splitlines()) == 1
    assert done.problem["code"] == "application_disabled"
