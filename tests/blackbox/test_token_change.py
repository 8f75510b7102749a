"""From one token to another, of another vendor too, while the service goes on."""

import os

import pytest

from faulty import FaultyToken
from installation import NssToken, Token, hsm_section, password_of, principal_of, wait_for

import traffic
from test_rotation import assert_all_right, states, writer

LONG = bool(os.environ.get("SSO_HSM_LONG"))
ROWS = 400
WRITES = 20

needs_nss = pytest.mark.skipif(not NssToken.is_installed(), reason="NSS softoken is not installed")


def with_tokens(make_installation, first, **others):
    """Configured with [hsm] of `first` and [hsm NAME] of the others, and initialised by the caller."""
    made = make_installation(token=first)
    made.write_config(**{f"hsm {name}": hsm_section(token) for name, token in others.items()})
    return made


def token_status(installation):
    """What status says of each token, by the name of its section."""
    return {token["section"]: token for token in installation.sso("status", check=0).json["tokens"]}


def serve(installation, *init):
    installation.init(*init)
    installation.start()
    installation.create_app()
    installation.fill(ROWS)


def rotate_to(installation, name):
    done = installation.sso("rotate", "--token", name, "--no-backup", check=0).lines[-1]
    assert done["state"] == "completed" and done["failed"] == 0, done
    return done["to"]


def test_between_two_token_directories(make_installation, tmp_path):
    old, new = Token(tmp_path / "old", label="old"), Token(tmp_path / "new", label="new", pin="5678-other")
    it = with_tokens(make_installation, old, new=new)
    serve(it)
    before = token_status(it)
    assert not before["hsm"]["may_be_switched_off"] and before["hsm"]["generations"] == [1]
    assert before["hsm"]["rows"] == ROWS and before["hsm"]["sealed_keys"] == 1
    assert before["new"]["generations"] == []
    with writer(it) as journal:
        wait_for(lambda: traffic.acknowledged(journal) > WRITES, "writes before")
        assert rotate_to(it, "new") == 2
        count = traffic.acknowledged(journal)
        wait_for(lambda: traffic.acknowledged(journal) > count + WRITES, "writes after")
    after = token_status(it)
    assert after["hsm"]["may_be_switched_off"] and after["hsm"]["kept"] == [1], after
    assert after["hsm"]["generations"] == [] and after["hsm"]["rows"] == 0
    assert not after["new"]["may_be_switched_off"] and after["new"]["generations"] == [2]
    text = it.sso("status", as_json=False, check=0).out
    assert "may be switched off, but older backups of the database need its generation 1" in text
    # It is switched off: the new one is all that is left.
    it.stop()
    old.directory.rename(tmp_path / "gone")
    del it.settings["hsm new"]
    it.settings["hsm"] = {}
    it.write_config(hsm=hsm_section(new))
    it.start()
    assert_all_right(it, ROWS, journal)
    it.put("app", "new", "written under the new token", status=201)
    assert it.sso("rotate", "--no-backup", check=0).lines[-1]["failed"] == 0
    assert it.sso("audit", "verify", check=0).json["ok"]


def test_while_a_rotation_to_it_is_unfinished_the_old_token_is_needed(make_installation, tmp_path):
    it = with_tokens(make_installation, Token(tmp_path / "old", label="old"),
                     new=Token(tmp_path / "new", label="new"))
    serve(it)
    it.sso("rotate", "--token", "new", "--no-backup", "--rate", "20", "--detach", check=0)
    wait_for(lambda: it.rotation()["done"] > 0, "rows are moved")
    it.sso("rotate", "cancel", check=0)
    it.wait_rotation("cancelled")
    now = token_status(it)
    assert not now["hsm"]["may_be_switched_off"] and now["hsm"]["generations"] == [1]
    assert now["hsm"]["rows"] + now["new"]["rows"] == ROWS and now["new"]["rows"] > 0
    it.restart()
    for n in range(0, ROWS, 50):
        assert it.password("app", principal_of(n)) == password_of(n)
    it.sso("rotate", "resume", check=0)
    it.sso("rotate", "rate", "0", check=0)
    it.wait_rotation("completed")
    assert token_status(it)["hsm"]["may_be_switched_off"]


@needs_nss
@pytest.mark.parametrize("suite", ["aes256-kw", "aes256-gcm"] if LONG else ["aes256-kw"])
def test_to_another_vendor_and_back(make_installation, tmp_path, suite):
    """SoftHSM, NSS softoken, another SoftHSM token, with a writer all the time."""
    it = with_tokens(make_installation, Token(tmp_path / "first", label="first"),
                     nss=NssToken(tmp_path / "nss"), third=Token(tmp_path / "third", label="third"))
    serve(it, "--suite", suite)
    with writer(it) as journal:
        for name in ("nss", "third"):
            count = traffic.acknowledged(journal)
            wait_for(lambda: traffic.acknowledged(journal) > count + WRITES, "writes")
            rotate_to(it, name)
            it.password("app", principal_of(3))
    now = token_status(it)
    assert [now[name]["may_be_switched_off"] for name in ("hsm", "nss", "third")] == [True, True, False]
    listed = it.sso("key", "list", check=0).json["generations"]
    assert ["pkcs11:token=" + label in row["tokens"][0] for label, row in
            zip(("first", "nss", "third"), listed)] == [True] * 3
    assert_all_right(it, ROWS, journal)
    it.restart()
    assert_all_right(it, ROWS, journal)
    with it.sql() as sql:
        assert [row[0] for row in sql.execute("SELECT DISTINCT generation FROM credentials")] == [3]


def test_renewal_between_tokens(make_installation, tmp_path):
    it = with_tokens(make_installation, Token(tmp_path / "old", label="old"),
                     new=Token(tmp_path / "new", label="new"))
    serve(it)
    done = it.sso("rotate", "--token", "new", "--no-backup", "--reencrypt", "--verify", "full",
                  check=0).lines[-1]
    assert done["state"] == "completed" and done["done"] == ROWS
    with it.sql() as sql:
        assert [tuple(row) for row in sql.execute("SELECT DISTINCT generation, born FROM credentials")] == \
            [(2, 2)]
    assert_all_right(it, ROWS)


def unchanged(installation):
    assert states(installation)[1] == ("active", ROWS)
    assert installation.rotation()["state"] == "none"
    assert all(state == "pending" for number, (state, _) in states(installation).items() if number > 1)


def test_tokens_that_are_refused(make_installation, tmp_path):
    """Before anything changes."""
    old = Token(tmp_path / "old", label="old")
    it = with_tokens(make_installation, old, same=old, poor=Token(tmp_path / "poor", label="poor"),
                     new=Token(tmp_path / "new", label="new"))
    poor = FaultyToken(it, "hsm poor")
    poor.control("C_WrapKey return CKR_MECHANISM_INVALID")
    serve(it)
    for name in ("hsm", "same"):
        refused = it.sso("rotate", "--token", name, "--no-backup", check=1)
        assert refused.problem["code"] == "token_not_suitable", refused
        assert "generation 1" in refused.problem["detail"]
    unchanged(it)
    it.sso("key", "generate", "--no-backup", check=0)
    refused = it.sso("rotate", "--token", "new", "--generation", "2", check=1)
    assert refused.problem["code"] == "token_not_suitable" and "--token new" in refused.problem["detail"]
    unchanged(it)
    refused = it.sso("rotate", "--token", "poor", "--no-backup", check=1)
    assert refused.problem["code"] == "token_not_suitable", refused
    unchanged(it)
    it.sso("rotate", "--token", "new", "--no-backup", check=0)
