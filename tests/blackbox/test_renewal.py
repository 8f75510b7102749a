"""New row keys and ciphertexts for rows, and what is to be done about a disclosed master secret."""

import json

from installation import password_of, principal_of, wait_for

from test_rotation import assert_all_right, states

ROWS = 300


def columns(installation, *names):
    with installation.sql() as sql:
        return {row["principal"]: tuple(row[name] for name in names)
                for row in sql.execute(f"SELECT principal, {', '.join(names)} FROM credentials")}


def event_names(installation):
    return {event["name"]
            for event in installation.sso("status", check=0).json["health"]["events"]}


def exposed(installation, number=1):
    done = installation.sso("key", "exposed", number, check=0)
    return {line["principal"]: line for line in done.lines}


def test_reencrypt_gives_every_row_a_new_key_and_ciphertext(running):
    running.fill(ROWS)
    kept = ("version", "updated", "external_user", "row_id")
    new = ("born", "row_key_id", "nonce", "ciphertext", "wrapped_row_key")
    before, old = columns(running, *kept), columns(running, *new)
    tag = running.api("GET", "/v1/apps/app/credentials/" + principal_of(5)).headers["ETag"]
    assert running.password("app", principal_of(5)) == password_of(5)  # its key is cached now
    done = running.sso("rotate", "--no-backup", "--reencrypt", check=0).lines[-1]
    assert done["state"] == "completed" and done["reencrypt"] and done["renew_born"] == 1
    assert columns(running, *kept) == before
    now = columns(running, *new)
    assert all(a != b for name in now for a, b in zip(now[name], old[name]))
    assert running.password("app", principal_of(5)) == password_of(5)
    running.put("app", principal_of(5), password_of(5), status=200, headers={"If-Match": tag})
    assert_all_right(running, ROWS)
    assert not event_names(running) & {"renewal_due", "credentials_exposed"}
    assert running.sso("key", "exposed", "1", check=1).problem["code"] == "bad_request"
    assert running.sso("audit", "verify", check=0).json["ok"]


def test_a_compromised_generation(running):
    running.fill(ROWS)
    running.sso("rotate", "--no-backup", check=0)
    running.put("app", "later", "born under generation 2", status=201)
    for twice in range(2):
        marked = running.sso("key", "mark-compromised", "1", check=0).json
        assert marked["compromised"] and marked["state"] == "retired"
    # It is not the active one: the service goes on.
    running.put("app", "while", "marked", status=201)
    assert "renewal_due" in event_names(running)
    assert set(exposed(running)) == {principal_of(n) for n in range(ROWS)}

    keys = columns(running, "row_key_id", "born")
    done = running.sso("rotate", "--no-backup", check=0).lines[-1]
    assert done["state"] == "completed" and not done["reencrypt"] and done["renew_born"] == 1
    now = columns(running, "row_key_id", "born")
    assert {name for name in now if now[name] != keys[name]} == set(exposed(running))
    assert now["later"] == keys["later"] and now[principal_of(0)][1] == 3
    wait_for(lambda: "credentials_exposed" in event_names(running), "the event of it")
    wait_for(lambda: "renewal_due" not in event_names(running), "nothing is left to be renewed")
    listed = exposed(running)
    assert len(listed) == ROWS and all(row["renewed"] and row["app"] == "app"
                                       for row in listed.values())
    running.put("app", principal_of(3), "changed where it is used", status=200)
    running.api("DELETE", "/v1/apps/app/credentials/" + principal_of(4), status=204)
    assert set(exposed(running)) == set(listed) - {principal_of(3), principal_of(4)}
    text = running.sso("key", "exposed", "1", as_json=False, check=0).out
    assert f"app/{principal_of(5)} " in text and principal_of(3) not in text
    running.sso("app", "purge", "app", check=0)
    wait_for(lambda: "credentials_exposed" not in event_names(running), "nothing is exposed", 90)


def test_the_active_generation_is_compromised(running):
    running.fill(20)
    running.sso("key", "generate", "--no-backup", check=0)
    running.sso("key", "mark-compromised", "1", check=0)
    refused = running.put("app", "new", "x")
    assert refused.status == 409 and refused.code == "generation_compromised", refused
    line = json.dumps({"app": "app", "principal": "b", "external_user": "e",
                       "fields": {"user": "u", "password": "p"}})
    assert running.sso("cred", "import", "-", data=line).code != 0
    assert "generation_compromised" in event_names(running)
    assert running.password("app", principal_of(1)) == password_of(1)
    running.sso("rotate", check=0)
    running.put("app", "new", "x", status=201)
    assert states(running)[1] == ("retired", 0)
    assert "generation_compromised" not in event_names(running)
    found = {line["principal"]: line["fields"]["password"]
             for line in running.sso("cred", "export", "app", check=0).lines}
    assert found == {**{principal_of(n): password_of(n) for n in range(20)}, "new": "x"}
    running.check_open()
    running.restart()
    assert running.password("app", "new") == "x"


def test_marks_that_are_refused(running):
    running.sso("key", "generate", "--no-backup", check=0)
    for number, code in (("2", "bad_request"), ("9", "not_found")):
        assert running.sso("key", "mark-compromised", number, check=1).problem["code"] == code
    for wrong in ("0", "x", "-1"):
        running.sso("key", "mark-compromised", wrong, check=2)
    for body in ({}, {"compromised": False}, {"compromised": 1}, {"compromised": True, "state": "retired"},
                 None):
        assert running.api("PATCH", "/v1/generations/1", body).status == 400, body
    for path in ("0", "01", "x", "1x", "99999999999"):
        assert running.api("PATCH", f"/v1/generations/{path}", {"compromised": True}).status == 404
    assert running.api("GET", "/v1/generations/1/exposed").status == 400
    assert not any(row["compromised"] for row in
                   running.sso("key", "list", check=0).json["generations"])


def test_a_rotation_to_a_generation_that_becomes_compromised_stops(running):
    running.fill(2000)
    running.sso("rotate", "--no-backup", "--rate", "20", "--detach", check=0)
    wait_for(lambda: running.rotation()["done"] > 0, "the rotation moves rows")
    running.sso("key", "mark-compromised", "2", check=0)
    failed = running.wait_rotation("failed")
    assert failed["error_code"] == "generation_compromised"
    moved = columns(running, "generation")
    done = running.sso("rotate", "--no-backup", check=0).lines[-1]
    assert done["state"] == "completed" and done["renew_born"] == 2 and done["from"] == [1, 2]
    assert {born for _, born in columns(running, "generation", "born").values()} == {3}
    assert {generation for (generation,) in moved.values()} == {1, 2}
    assert_all_right(running, 2000)
