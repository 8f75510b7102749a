"""The master secret in the token, and the evidence for it."""

import re

import pytest

MODULE_USAGES = ["encrypt", "decrypt", "sign", "verify", "derive"]


def objects(token):
    """The secret keys of a token as pkcs11-tool prints them, one dict each."""
    found = []
    for line in token.pkcs11_tool("-O", "--type", "secrkey").splitlines():
        if line and not line.startswith(" "):
            found.append({"kind": line})
        elif ":" in line and found:
            key, value = line.split(":", 1)
            found[-1][key.strip()] = value.strip()
    return found


def test_master_secret_is_sensitive_and_never_readable(initialised, tmp_path):
    keys = [each for each in objects(initialised.token) if "Secret Key" in each["kind"]]
    assert len(keys) == 1 and "AES length 32" in keys[0]["kind"]
    system = initialised.sso("key", "show", "1", check=0).json
    assert re.fullmatch(r"sso-hsm:[0-9a-f-]{32,36}:1", keys[0]["label"])
    assert keys[0]["ID"].lower() == system["secret_id"]
    access = keys[0]["Access"]
    assert "sensitive" in access and "never extractable" in access and "always sensitive" in access
    usages = re.split(r"[,\s]+", keys[0]["Usage"])
    assert "wrap" in usages and "unwrap" in usages
    assert not [usage for usage in usages if usage in MODULE_USAGES], usages
    value = tmp_path / "value"
    initialised.token.pkcs11_tool("--read-object", "--type", "secrkey", "--id", system["secret_id"],
                                  "--output-file", str(value), check=False)
    assert not value.exists() or value.stat().st_size == 0


def test_gcm_key_has_the_other_pair(blank):
    blank.init("--suite", "aes256-gcm")
    usages = re.split(r"[,\s]+", objects(blank.token)[0]["Usage"])
    assert {"encrypt", "decrypt"} <= set(usages) and not {"wrap", "unwrap"} & set(usages)


def test_evidence(initialised):
    shown = initialised.sso("key", "show", check=0).json
    evidence = shown["evidence"]
    assert evidence["accepted"] is True and evidence["weak"] == []
    assert evidence["sensitive"] is True and evidence["extractable"] is False
    assert evidence["local"] is True and evidence["never_extractable"] is True
    assert evidence["always_sensitive"] is True and evidence["canary"] is True
    assert sorted(evidence["usages"]) == ["unwrap", "wrap"]
    for attempt in ("read_value", "wrap", "copy", "set_extractable"):
        assert evidence[attempt].startswith("CKR_") and evidence[attempt] != "CKR_OK", attempt
    text = initialised.sso("key", "show", as_json=False, check=0).out
    assert "CKR_" in text and shown["secret_id"] in text


def test_list(running):
    listed = running.sso("key", "list", check=0).json["generations"]
    assert [each["number"] for each in listed] == [1]
    generation = listed[0]
    assert generation["state"] == "active" and generation["suite"] == "aes256-kw"
    assert re.fullmatch("[0-9a-f]{32}", generation["secret_id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", generation["created"])
    assert generation["tokens"][0].startswith("pkcs11:token=test;serial=")
    assert "pin" not in generation["tokens"][0] and "module" not in generation["tokens"][0]
    assert generation["backed_up"] is None and generation["share_set"] is None
    assert generation["compromised"] is False


def test_generate_is_pending_and_numbers_rise(running):
    second = running.sso("key", "generate", "--no-backup", check=0).json
    third = running.sso("key", "generate", "--no-backup", check=0).json
    assert (second["number"], third["number"]) == (2, 3) and second["state"] == "pending"
    running.put("app", "anna", "still under generation 1", status=201)
    assert running.look_up("app", "anna").json["generation"] == 1


def test_show_of_no_such_generation(initialised):
    assert initialised.sso("key", "show", "7", check=1).problem["code"] == "not_found"


def remake_master_secret(installation, *changes):
    """Puts another key where the master secret was: same id, label and type."""
    token = installation.token
    secret_id = installation.sso("key", "show", "1", check=0).json["secret_id"]
    label = objects(token)[0]["label"]
    token.pkcs11_tool("--delete-object", "--type", "secrkey", "--id", secret_id)
    token.make_key(secret_id, label, *changes)


@pytest.mark.parametrize("change", ["sensitive=0", "extractable=1", "encrypt=1", "decrypt=1", "sign=1",
                                    "verify=1", "derive=1", "wrap=0", "unwrap=0"])
def test_key_with_one_forbidden_attribute_or_usage_is_refused(initialised, change):
    remake_master_secret(initialised, change)
    name, _ = change.split("=")
    shown = initialised.sso("key", "show", "1")
    if shown.code == 0:
        assert shown.json["evidence"]["accepted"] is False and shown.json["evidence"]["weak"], shown
    else:
        assert shown.code == 1 and shown.problem["code"] in ("key_not_acceptable",
                                                             "wrong_master_secret"), shown
    initialised.start(wait=None)
    health = initialised.api("GET", "/v1/health")
    assert health.status == 503 and not health.json["encrypt"] and not health.json["decrypt"]
    reply = initialised.look_up("app", "anna")
    assert reply.status == 503 and reply.code in ("no_master_secret", "wrong_master_secret",
                                                  "key_not_acceptable"), reply
    assert name in reply.json["detail"].lower() or "canary" in reply.json["detail"], reply


@pytest.mark.parametrize("length", [16, 24])
def test_shorter_key_is_refused(initialised, length):
    remake_master_secret(initialised, f"value_len={length}")
    initialised.start(wait=None)
    assert initialised.look_up("app", "anna").code in ("no_master_secret", "wrong_master_secret",
                                                       "key_not_acceptable")


def test_another_key_in_its_place_does_not_open_the_canary(initialised):
    remake_master_secret(initialised)
    initialised.start(wait=None)
    reply = initialised.look_up("app", "anna")
    assert reply.status == 503 and reply.code == "wrong_master_secret", reply


def test_two_keys_of_that_name_are_refused_with_the_count(initialised):
    key = objects(initialised.token)[0]
    initialised.token.make_key(key["ID"], key["label"])
    initialised.start(wait=None)
    reply = initialised.look_up("app", "anna")
    assert reply.code == "no_master_secret" and "2" in reply.json["detail"], reply


def test_a_number_whose_key_the_database_does_not_know_is_passed_over(running):
    """As a rotation leaves it that was killed between making the key and storing its row."""
    label = objects(running.token)[0]["label"]
    assert label.endswith(":1")
    running.token.make_key("5a" * 16, label.removesuffix("1") + "2")
    running.fill(5)
    done = running.sso("rotate", "--no-backup", check=0).lines[-1]
    assert done["state"] == "completed" and done["to"] == 3, done
    running.check_open()


def test_empty_token_changes_nothing_in_the_database(running):
    """A key missing from a token never changes or deletes a database row."""
    running.fill(10)
    running.stop()
    with running.sql() as sql:
        before = list(sql.execute("SELECT * FROM credentials ORDER BY row_id").fetchall())
        before = [tuple(row) for row in before]
    secret_id = running.sso("key", "show", "1", check=0).json["secret_id"]
    running.token.pkcs11_tool("--delete-object", "--type", "secrkey", "--id", secret_id)
    running.start(wait=None)
    assert running.look_up("app", "p000000").code == "no_master_secret"
    assert running.sso("rotate", "--no-backup").code == 1
    running.stop()
    with running.sql() as sql:
        after = [tuple(row) for row in sql.execute("SELECT * FROM credentials ORDER BY row_id")]
        assert after == before
        assert [row[0] for row in sql.execute("SELECT state FROM generations")] == [2]


def test_rotate_counts_only_what_is_pending_above_the_active_generation(running):
    running.sso("key", "generate", "--no-backup", check=0)
    second = running.sso("key", "generate", "--no-backup", check=0)
    assert "generation 2 is pending already" in second.err
    assert "2 generations are pending" in running.sso("rotate", check=2).problem["detail"]
    running.sso("rotate", "--generation", "3", check=0)
    assert "no generation above" in running.sso("rotate", check=2).problem["detail"]
    third = running.sso("key", "generate", "--no-backup", check=0)
    assert "pending already" not in third.err
    assert running.sso("rotate", check=0).lines[-1]["to"] == 4
