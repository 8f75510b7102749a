"""Settings in the database: shown, changed while everything runs, by two where that is asked for."""

import pytest

from installation import MY_GROUP, wait_for


def settings(installation):
    reply = installation.sso("settings", "show", check=0).json["settings"]
    return {each["name"]: each["value"] for each in reply}


def proposed(installation):
    reply = installation.sso("settings", "show", check=0).json["settings"]
    return {each["name"]: each["proposed"] for each in reply if each["proposed"]}


def events(installation):
    return {event["name"] for event in installation.api("GET", "/v1/health").json["events"]}


def test_shown_and_changed(running):
    before = settings(running)
    assert before["cache.lease"] == "1h" and before["system.enabled"] == "yes"
    changed = running.sso("settings", "set", "cache.lease=30m", "keys.drill_interval=90d",
                          check=0).json["settings"]
    after = {each["name"]: each["value"] for each in changed}
    assert after == {**before, "cache.lease": "30m", "keys.drill_interval": "90d"}
    assert {each["name"]: each["version"] for each in changed if each["version"] != 1} == {
        "cache.lease": 2, "keys.drill_interval": 2}
    wait_for(lambda: "settings_differ" in events(running), "the file is said to differ")
    running.restart()
    assert settings(running) == after
    assert running.sso("db", "check", "--open", check=0).json["ok"]
    record = [each for each in running.sso("audit", "export", check=0).lines
              if each["operation"] == "settings.change"]
    assert record[-1]["target"] == "cache.lease=30m keys.drill_interval=90d"
    assert record[-1]["outcome"] == "ok"


@pytest.mark.parametrize("body", [
    None, {}, {"no.such": "1h"}, {"cache.lease": "soon"}, {"cache.lease": 5}, {"cache.lease": None},
    {"system.revocation": "7"}, {"proposed.cache.lease": "1 1h me"},
    {"keys.drill_interval": "1d", "cache.lease": "-1s"}, {"system.enabled": "perhaps"}])
def test_bad_changes_change_nothing(shared, body):
    before = shared.api("GET", "/v1/settings").json
    reply = shared.api("PATCH", "/v1/settings", body)
    assert reply.status in (400, 404), reply
    assert shared.api("GET", "/v1/settings").json == before


def test_concurrent_writers(running):
    etag = running.api("GET", "/v1/settings").headers["ETag"]
    changed = running.api("PATCH", "/v1/settings", {"cache.lease": "2h"}, {"If-Match": etag}, status=200)
    assert changed.headers["ETag"] != etag
    late = running.api("PATCH", "/v1/settings", {"cache.lease": "3h"}, {"If-Match": etag})
    assert late.status == 412 and late.code == "version_conflict"
    assert settings(running)["cache.lease"] == "2h"


def test_the_whole_system_off_and_on(running):
    """Lookups and writes of credentials are refused at once; the work of administrators goes on."""
    running.put("app", "anna", "x", status=201)
    running.api("PATCH", "/v1/settings", {"system.enabled": False}, status=200)
    for reply in (running.look_up("app", "anna"), running.put("app", "anna", "y"),
                  running.put("app", "new", "y")):
        assert reply.status == 409 and reply.code == "system_disabled", reply
    running.create_app("other")
    running.sso("mapping", "disable", "app", "anna", check=0)
    running.sso("mapping", "enable", "app", "anna", check=0)
    wait_for(lambda: "system_disabled" in events(running), "health tells")
    running.restart()
    assert running.look_up("app", "anna").code == "system_disabled"
    running.sso("settings", "set", "system.enabled=yes", check=0)
    assert running.password("app", "anna") == "x"
    wait_for(lambda: "system_disabled" not in events(running), "health tells no more")


def cache_entries(installation):
    for line in installation.api("GET", "/metrics", status=200).body.decode().splitlines():
        if line.startswith("sso_hsm_cache_entries"):
            return float(line.split()[-1])
    raise AssertionError("no such metric")


def test_a_shorter_lease_counts_without_restart(running):
    running.put("app", "anna", "x", status=201)
    running.password("app", "anna")
    assert cache_entries(running) == 1
    running.sso("settings", "set", "cache.lease=0s", check=0)
    wait_for(lambda: cache_entries(running) == 0, "the cache is emptied")
    assert running.password("app", "anna") == "x"
    assert cache_entries(running) == 0
    running.sso("settings", "set", "cache.lease=1h", check=0)
    wait_for(lambda: running.password("app", "anna") == "x" and cache_entries(running) == 1,
             "the cache takes again")


def test_another_node_takes_it_over_within_a_poll(running, make_installation):
    """A second custodian on the same database, with its own state directory."""
    other = make_installation(database=running.settings["database"], hsm=running.settings["hsm"],
                              cluster={"node": "node2", "poll_interval": "100ms"})
    running.sso("settings", "set", "cluster.poll_interval=100ms", check=0)
    state = other.directory / "state"
    state.mkdir()
    other.write_config(system={"state_directory": state})
    other.start(wait=None)
    running.put("app", "anna", "x", status=201)
    # The master opens row keys, and keeps them when it is the master no more.
    wait_for(lambda: running.sso("master", "move", "node2").code == 0, "the other is ready")
    wait_for(lambda: other.password("app", "anna") == "x" and cache_entries(other) == 1,
             "it keeps a row key")
    wait_for(lambda: other.sso("master", "move", "node1").code == 0, "the first is ready")
    assert cache_entries(other) == 1
    running.sso("settings", "set", "cache.lease=0s", check=0)
    wait_for(lambda: cache_entries(other) == 0, "the other node has the new lease")


def test_two_administrators(initialised, people):
    it = initialised
    admins = people.group("admins")
    anna, berta = people.user(admins), people.user(admins)
    it.write_config(roles={"sso_admins": f"{MY_GROUP}, {admins}"})
    it.config.chmod(0o644)
    it.start()
    it.sso("settings", "set", "keys.dual_control=yes", check=0, user=anna)
    refused = it.sso("settings", "set", "keys.retired_keep=1d", "cache.lease=5m", user=anna, check=1)
    assert refused.problem["code"] == "confirmation_needed"
    assert settings(it)["keys.retired_keep"] == "400d" and settings(it)["cache.lease"] == "1h"
    assert proposed(it) == {
        "keys.retired_keep": {"value": "1d", "by": anna.pw_name},
        "cache.lease": {"value": "5m", "by": anna.pw_name}}
    assert it.sso("settings", "confirm", user=anna, check=1).problem["code"] == "confirmation_needed"
    other = it.api("POST", "/v1/settings:confirm", {"keys.retired_keep": "2d"}, uid=berta.pw_uid)
    assert other.status == 412
    assert it.sso("settings", "confirm", "keys.drill_interval", user=berta, check=1).problem[
        "code"] == "not_found"
    it.sso("settings", "confirm", user=berta, check=0)
    assert settings(it)["keys.retired_keep"] == "1d" and settings(it)["cache.lease"] == "5m"
    assert proposed(it) == {}
    # What strengthens needs one; what would lift the rule itself needs two.
    it.sso("settings", "set", "keys.retired_keep=500d", user=anna, check=0)
    it.sso("settings", "set", "keys.dual_control=no", user=anna, check=1)
    it.sso("settings", "set", "keys.dual_control=yes", user=anna, check=0)
    assert proposed(it) == {}, "set to what it is: withdrawn"
    assert it.sso("settings", "confirm", user=berta, check=1).problem["code"] == "not_found"
    outcomes = [(each["actor"], each["outcome"]) for each in it.sso("audit", "export", check=0).lines
                if each["operation"] in ("settings.change", "settings.confirm")]
    assert (anna.pw_name, "confirmation_needed") in outcomes and (berta.pw_name, "ok") in outcomes


def test_a_proposal_outrun_by_a_change_is_gone(initialised, people):
    it = initialised
    admins = people.group("admins")
    anna, berta = people.user(admins), people.user(admins)
    it.write_config(roles={"sso_admins": f"{MY_GROUP}, {admins}"})
    it.config.chmod(0o644)
    it.start()
    it.sso("settings", "set", "keys.dual_control=yes", check=0)
    it.sso("settings", "set", "keys.retired_keep=1d", user=anna, check=1)
    it.sso("settings", "set", "keys.retired_keep=800d", user=anna, check=0)
    reply = it.api("POST", "/v1/settings:confirm", {"keys.retired_keep": "1d"}, uid=berta.pw_uid)
    assert reply.status == 404 and settings(it)["keys.retired_keep"] == "800d"


def test_a_forged_proposal_is_refused(running):
    """The owner of the database cannot propose in somebody's name."""
    with running.sql() as database:
        database.execute("INSERT INTO settings SELECT 'proposed.keys.retired_keep', '1 0s somebody',"
                         " 1, tag FROM settings WHERE name = 'keys.retired_keep'")
    for method, path, body in (("GET", "/v1/settings", None),
                               ("POST", "/v1/settings:confirm", {"keys.retired_keep": "0s"})):
        reply = running.api(method, path, body)
        assert reply.status == 500 and reply.code == "policy_tampered", reply
