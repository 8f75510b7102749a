"""sso-hsm bench: what it measures, and that it leaves the token as it was."""

from faulty import FaultyToken


def test_table(initialised):
    objects = initialised.token.pkcs11_tool("-O")
    rows = initialised.sso("bench", check=0).json["rows"]
    assert [(row["workers"], row["sessions"]) for row in rows if row["suite"] == "aes256-kw"] == [
        (workers, sessions) for workers in (1, 2) for sessions in (1, 4, 16)]
    for row in rows:
        assert row["error"] is None and row["raw_releases"] > 0 and row["raw_rewraps"] > 0, row
        active = row["suite"] == "aes256-kw"
        assert (row["system_releases"] is not None) == (row["system_rewraps"] is not None) == active
        assert not active or row["system_releases"] > 0 and row["system_rewraps"] > 0, row
    assert initialised.token.pkcs11_tool("-O") == objects


def test_before_init_and_without_a_suite(blank):
    """The token alone, and for people; a suite that the token has not is told of in its rows."""
    blank.write_config(hsm={"workers": "1"})
    FaultyToken(blank).control("C_WrapKey return CKR_MECHANISM_INVALID")
    shown = blank.sso("bench", as_json=False, check=0).out.splitlines()
    of = {suite: [line for line in shown if line.startswith(suite)]
          for suite in ("aes256-kw", "aes256-gcm")}
    assert of["aes256-kw"] and all("CKR_MECHANISM_INVALID" in line for line in of["aes256-kw"])
    assert of["aes256-gcm"] and not any("CKR_" in line for line in of["aes256-gcm"])
