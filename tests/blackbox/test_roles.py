"""Every operation as every role, against the table of docs (DESIGN: roles)."""

import subprocess

import pytest

from installation import ME, MY_GROUP, SANITIZED, Installation, credential_path, wait_for

ROLES = ["sso_admin", "affiliate_admin", "app_admin", "app_user", "reader", "auditor", "nobody",
         "of_another_app"]
ADMINS = {"sso_admin", "affiliate_admin"}
APP_ADMINS = ADMINS | {"app_admin"}
EVERYBODY = set(ROLES)
BODY = {"external_user": "e", "fields": {"user": "u", "password": "p"}}
MAPPING = {"enabled": True}
PROPERTIES = {"properties": {"url": "u", "token": "t"}}
NEW_APP = {"name": "app", "type": "individual", "fields": [{"label": "user"}]}

# Method, path, body, who may. {own} is the caller's principal, {any} somebody else's, {app} the
# application, {config} one that holds configuration, {gone} one that is there to be deleted.
MATRIX = [
    ("GET", "/v1/health", None, EVERYBODY),
    ("GET", "/v1/status", None, {"sso_admin", "auditor"}),
    ("GET", "/metrics", None, {"sso_admin", "auditor"}),
    ("GET", "/v1/generations", None, {"sso_admin"}),
    ("PATCH", "/v1/generations/99", {"compromised": True}, {"sso_admin"}),
    ("PATCH", "/v1/generations/99", {"state": "retired"}, {"sso_admin"}),
    ("POST", "/v1/generations/99:confirm", None, {"sso_admin"}),
    ("GET", "/v1/generations/99/exposed", None, {"sso_admin"}),
    ("POST", "/v1/apps", NEW_APP, ADMINS),
    ("POST", "/v1/apps:import", {"apps": [], "dry_run": True}, ADMINS),
    ("GET", "/v1/apps/{app}", None, APP_ADMINS | {"app_user", "reader"}),
    ("PATCH", "/v1/apps/{app}", {"description": "d"}, APP_ADMINS),
    ("PATCH", "/v1/apps/{app}", {"enabled": True}, APP_ADMINS),
    ("DELETE", "/v1/apps/{gone}", None, ADMINS),
    ("POST", "/v1/apps/{gone}/purge", None, APP_ADMINS),
    ("GET", "/v1/apps/{app}/credentials", None, APP_ADMINS | {"reader"}),
    ("POST", "/v1/apps/{app}/credentials:batch", {"items": [{"principal": "b", **BODY}]}, APP_ADMINS),
    ("GET", "/v1/apps/{app}/credentials/{any}", None, APP_ADMINS | {"reader"}),
    ("GET", "/v1/apps/{app}/credentials/{own}", None, APP_ADMINS | {"app_user", "reader"}),
    ("PUT", "/v1/apps/{app}/credentials/{any}", BODY, APP_ADMINS),
    ("PUT", "/v1/apps/{app}/credentials/{own}", BODY, APP_ADMINS | {"app_user"}),
    ("DELETE", "/v1/apps/{app}/credentials/nobody", None, APP_ADMINS),
    ("GET", "/v1/mappings", None, APP_ADMINS | {"app_user", "of_another_app"}),
    ("GET", "/v1/apps/{app}/mappings", None, APP_ADMINS),
    ("GET", "/v1/apps/{app}/mappings/{any}", None, APP_ADMINS),
    ("GET", "/v1/apps/{app}/mappings/{own}", None, APP_ADMINS | {"app_user"}),
    ("PUT", "/v1/apps/{app}/mappings/{any}", MAPPING, APP_ADMINS),
    ("PUT", "/v1/apps/{app}/mappings/{own}", MAPPING, APP_ADMINS | {"app_user"}),
    ("DELETE", "/v1/apps/{app}/mappings/nobody", None, APP_ADMINS),
    # No other role reads others' credentials, SSO admins included.
    ("POST", "/v1/lookup", {"app": "{app}", "principal": "{any}"}, {"reader"}),
    ("POST", "/v1/lookup", {"app": "{app}", "principal": "{own}"}, APP_ADMINS | {"app_user", "reader"}),
    ("POST", "/v1/lookup", {"app": "{app}"}, APP_ADMINS | {"app_user", "reader"}),
    ("GET", "/v1/apps/{config}/config", None, APP_ADMINS | {"app_user", "reader"}),
    ("PUT", "/v1/apps/{config}/config", PROPERTIES, APP_ADMINS),
    ("PATCH", "/v1/apps/{config}/config", {"properties": {"url": "v"}}, APP_ADMINS),
    ("DELETE", "/v1/apps/{config}/config", None, APP_ADMINS),
    ("POST", "/v1/tickets", {}, {"app_user", "of_another_app"}),
    ("POST", "/v1/tickets:redeem", {"app": "{app}", "ticket": "AAAA"}, APP_ADMINS),
    ("GET", "/v1/rotation", None, {"sso_admin"}),
    ("POST", "/v1/rotation", {"generation": 99}, {"sso_admin"}),
    ("PATCH", "/v1/rotation", {"action": "pause"}, {"sso_admin"}),
    ("GET", "/v1/rotation/quarantine", None, {"sso_admin"}),
    ("GET", "/v1/audit?after=0", None, {"sso_admin", "auditor"}),
    ("POST", "/v1/audit:prune", {"through": 1, "hash": "00" * 32}, {"sso_admin"}),
    ("POST", "/v1/pin:reset", {}, {"sso_admin"}),
    ("GET", "/v1/nodes", None, {"sso_admin"}),
    ("PATCH", "/v1/nodes/nobody", {"approved": True, "fingerprint": "0" * 64}, {"sso_admin"}),
    ("DELETE", "/v1/nodes/nobody", None, {"sso_admin"}),
    ("GET", "/v1/settings", None, {"sso_admin"}),
    ("PATCH", "/v1/settings", {"cache.lease": "60m"}, {"sso_admin"}),
    ("POST", "/v1/settings:confirm", {"cache.lease": "60m"}, {"sso_admin"}),
]


class House:
    """An installation with one user for each role."""

    def __init__(self, installation, people):
        self.installation = installation
        groups = {role: people.group(role) for role in ROLES}
        self.people = {role: people.user(group) for role, group in groups.items()}
        self.groups = groups
        installation.write_config(roles={
            "sso_admins": f"{MY_GROUP}, {groups['sso_admin']}",
            "affiliate_admins": groups["affiliate_admin"], "auditors": groups["auditor"]})
        installation.init()
        installation.start()
        self.create("app")
        self.create("foreign", of="of_another_app")
        self.create_config("app-config")
        self.create_config("foreign-config", of="of_another_app")
        for role in ROLES:
            self.create(f"gone-{role}")
            installation.put("app", self.people[role].pw_name, f"of {role}", status=201)
        installation.put("app", "somebody", "of somebody", status=201)

    def create(self, name, of=None):
        self.installation.create_app(
            name, admins=self.groups[of or "app_admin"], users=self.groups[of or "app_user"],
            readers=self.groups[of or "reader"])

    def create_config(self, name, of=None):
        self.installation.sso(
            "app", "create", name, "--type", "config", "--field", "url", "--field", "token:masked",
            "--admins", self.groups[of or "app_admin"], "--users", self.groups[of or "app_user"],
            "--readers", self.groups[of or "reader"], check=0)
        self.installation.sso("app", "enable", name, check=0)
        self.installation.api("PUT", f"/v1/apps/{name}/config", PROPERTIES, status=201)

    def call(self, role, method, path, body=None, app="app", other="somebody"):
        words = {"app": app, "config": f"{app}-config", "any": other, "own": self.people[role].pw_name, "gone": f"gone-{role}"}

        def fill(value):
            if isinstance(value, dict):
                return {key: fill(each) for key, each in value.items()}
            if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
                return words.get(value[1:-1], value)
            return value

        for word, value in words.items():
            path = path.replace("{" + word + "}", value)
        return self.installation.api(method, path, fill(body), uid=self.people[role].pw_uid)


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


@pytest.mark.parametrize("method, path, body, allowed", [
    pytest.param(*row, id=f"{number} {row[0]} {row[1]}") for number, row in enumerate(MATRIX)])
def test_matrix(house, method, path, body, allowed):
    for role in ROLES:
        reply = house.call(role, method, path, body)
        assert reply.status != 401 and (reply.status == 403) == (role not in allowed), (role, reply)
        if role not in allowed:
            assert reply.code == "forbidden"


@pytest.mark.parametrize("method, path, body, allowed", [
    pytest.param(*row, id=f"{number} {row[0]} {row[1]}") for number, row in enumerate(MATRIX)
    if "{" in row[1] or "{" in str(row[2])])
def test_a_refusal_reveals_nothing(house, method, path, body, allowed):
    """The same answer for what exists and what does not. Administrators may list applications, so
    to them it is no secret which there are."""
    for role in set(ROLES) - allowed - ADMINS:
        there = house.call(role, method, path, body).json
        no_app = house.call(role, method, path.replace("{gone}", "{app}"), body, app="no-such-app").json
        nobody = house.call(role, method, path, body, other="no-such-principal").json
        for reply in (there, no_app, nobody):
            reply.pop("request_id")
        assert there == no_app == nobody, role
        assert "somebody" not in str(there) and "gone" not in str(there)


def test_rights_end_at_the_application(house):
    """Rights in one application are none in another."""
    for role in ("app_admin", "app_user", "reader"):
        for method, path, body, _ in MATRIX:
            if "{app}" in path or "{config}" in path or "{app}" in str(body):
                reply = house.call(role, method, path, body, app="foreign")
                assert reply.status == 403, (role, method, path, reply)


def test_lists_show_only_what_concerns_the_caller(house):
    def names(role):
        reply = house.call(role, "GET", "/v1/apps")
        return None if reply.status == 403 else {app["name"] for app in reply.json["apps"]}

    assert names("sso_admin") == names("affiliate_admin")
    assert {"app", "foreign"} <= names("sso_admin")
    for role in ("app_admin", "app_user", "reader"):
        assert "app" in names(role) and "foreign" not in names(role)
    assert "app" not in (names("of_another_app") or set())
    assert not names("nobody")


def test_health_in_full_only_with_a_role(house):
    assert set(house.call("nobody", "GET", "/v1/health").json) == {"status"}
    for role in ("sso_admin", "auditor"):
        assert "events" in house.call(role, "GET", "/v1/health").json


def test_a_batch_is_authorised_item_by_item(house):
    items = [{"app": app, "principal": "somebody"} for app in ("app", "foreign", "no-such-app")]
    reply = house.installation.api("POST", "/v1/lookup", {"items": items},
                                   uid=house.people["reader"].pw_uid)
    assert reply.status == 200
    codes = [item.get("code") for item in reply.json["items"]]
    assert codes == [None, "forbidden", "forbidden"]


def test_a_user_cannot_undo_what_an_administrator_disabled(house):
    own = house.people["app_user"].pw_name
    path = f"/v1/apps/app/mappings/{own}"
    house.installation.put("app", own, "x")
    house.call("app_user", "PUT", path, {"enabled": False})
    assert house.call("app_admin", "GET", path).json["state"] == "disabled_by_user"
    assert house.call("app_user", "PUT", path, {"enabled": True}).status == 200
    house.call("app_admin", "PUT", path, {"enabled": False})
    reply = house.call("app_user", "PUT", path, {"enabled": True})
    assert reply.status in (403, 409), reply
    assert house.call("app_admin", "GET", path).json["state"] == "disabled_by_admin"
    assert house.call("app_admin", "PUT", path, {"enabled": True}).status == 200


def test_root_has_no_role_by_itself(house):
    """uid 0 speaks for nobody: here it has its role from its group alone."""
    it = house.installation
    it.stop()
    it.write_config(roles={"sso_admins": house.groups["sso_admin"]})
    it.start(wait=None)
    try:
        wait_for(lambda: house.call("sso_admin", "GET", "/v1/health").json.get("encrypt"), "it serves")
        assert set(it.api("GET", "/v1/health").json) == {"status"}
        for path in ("/v1/status", "/v1/apps/app", "/v1/audit"):
            assert it.api("GET", path).status == 403, path
    finally:
        it.stop()
        it.write_config(roles={"sso_admins": f"{MY_GROUP}, {house.groups['sso_admin']}"})
        it.start()


def test_setting_somebody_elses_credential_is_an_event(house):
    house.call("app_admin", "PUT", credential_path("app", "somebody"), BODY)
    assert "credential_set_for_other" in house.installation.log_text()


def test_the_tool_as_another_user(house):
    """Exit 4, and the reader gets what it may have."""
    it = house.installation
    it.put("app", "somebody", "of somebody")
    refused = it.sso("cred", "get", "app", "somebody", user=house.people["app_user"])
    assert refused.code == 4 and refused.problem["code"] == "forbidden"
    given = it.sso("cred", "get", "app", "somebody", user=house.people["reader"], check=0).json
    assert given["fields"]["password"] == "of somebody"
    exported = it.sso("cred", "export", "app", user=house.people["reader"], check=0).lines
    assert "somebody" in [line["principal"] for line in exported]
    assert it.sso("cred", "export", "app", user=house.people["sso_admin"]).code == 4


def test_a_group_that_changed_counts_soon(house, people):
    """Membership is kept for seconds, not for the life of the daemon."""
    user = house.people["nobody"]
    assert house.call("nobody", "GET", "/v1/status").status == 403
    subprocess.run(["usermod", "-a", "-G", house.groups["auditor"], user.pw_name], check=True)
    wait_for(lambda: house.call("nobody", "GET", "/v1/status").status == 200, "the new group counts")
    subprocess.run(["usermod", "-G", house.groups["nobody"], user.pw_name], check=True)
    wait_for(lambda: house.call("nobody", "GET", "/v1/status").status == 403, "and no longer counts")


def resident_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_large_bodies_of_strangers_take_no_memory(house):
    """Eight million bytes that would be millions of JSON values."""
    body = b'{"items":[' + b",".join([b"{}"] * 2_600_000) + b"]}"
    before = resident_bytes(house.installation.custodian.pid)
    for method, path in (("POST", "/v1/lookup"), ("PUT", "/v1/apps/app/credentials/somebody"),
                         ("POST", "/v1/apps/app/credentials:batch"), ("POST", "/v1/rotation")):
        for _ in range(4):
            reply = house.call("nobody", method, path, body)
            assert reply.status in (403, 413), reply
    grown = resident_bytes(house.installation.custodian.pid) - before
    assert grown < 64 << 20 or SANITIZED, grown


def test_direct_commands_name_the_groups_that_would_help(make_installation, people):
    admins, auditors = people.group("admins"), people.group("auditors")
    installation = make_installation()
    installation.init()
    installation.write_config(roles={"sso_admins": admins, "auditors": auditors})
    refused = installation.sso("key", "show", check=4).problem["detail"]
    assert f"add {ME} to one of: {admins}" in refused and auditors not in refused
    refused = installation.sso("audit", "verify", check=4).problem["detail"]
    assert admins in refused and auditors in refused
    installation.write_config(roles={"sso_admins": admins, "auditors": MY_GROUP})
    assert installation.sso("audit", "verify", check=0).json["ok"]
    installation.sso("key", "show", check=4)


def test_a_refused_caller_is_told_who_he_is(make_installation, people):
    installation = make_installation()
    installation.init()
    installation.config.chmod(0o644)
    installation.start()
    stranger = people.user()
    refused = installation.sso("status", user=stranger, check=4).problem["detail"]
    assert f"you are {stranger.pw_name}" in refused and str(installation.config) in refused
