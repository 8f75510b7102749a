"""The whole service on tokens that are not SoftHSM."""

import pytest

from faulty import FaultyToken
from installation import NssToken, password_of, principal_of

ROWS = 300

needs_nss = pytest.mark.skipif(not NssToken.is_installed(), reason="NSS softoken is not installed")


def check_service(installation, suite):
    """From init to the end of a rotation: what was written before and after it is read."""
    installation.init("--suite", suite)
    installation.start()
    installation.create_app()
    installation.fill(ROWS)
    installation.put("app", "before", "pw-before", status=201)
    assert installation.sso("key", "generate", "--no-backup", check=0).json["number"] == 2
    last = installation.sso("rotate", "--generation", "2", check=0).lines[-1]
    assert (last["state"], last["done"], last["failed"]) == ("completed", ROWS + 1, 0), last
    installation.put("app", "after", "pw-after", status=201)
    assert installation.password("app", "before") == "pw-before"
    assert installation.password("app", "after") == "pw-after"
    for n in range(0, ROWS, 37):
        assert installation.password("app", principal_of(n)) == password_of(n)
    with installation.sql() as database:
        generations = database.execute("SELECT DISTINCT generation FROM credentials").fetchall()
    assert [row[0] for row in generations] == [2]


@needs_nss
@pytest.mark.parametrize("suite", ["aes256-kw", "aes256-gcm"])
def test_nss(make_installation, tmp_path, suite):
    installation = make_installation(token=NssToken(tmp_path / "nss"))
    check_service(installation, suite)
    installation.restart()
    assert installation.password("app", "before") == "pw-before"
    assert installation.check_open()["rows"] == ROWS + 2


@needs_nss
def test_nss_in_fips_mode(make_installation, tmp_path):
    """Row keys leave and enter the token under a transport key only."""
    check_service(make_installation(token=NssToken(tmp_path / "nss", fips=True)), "aes256-kw")


def test_a_token_without_either_suite_is_refused_by_the_name_of_what_it_lacks(blank):
    """As openCryptoki's soft token, which has AES in ECB and CBC only."""
    token = FaultyToken(blank)
    token.control("C_GetMechanismInfo return CKR_MECHANISM_INVALID")
    for suite, missing in (("aes256-kw", "CKM_AES_KEY_WRAP"), ("aes256-gcm", "CKM_AES_GCM")):
        refused = blank.sso("init", "--no-backup", "--suite", suite, check=1).problem
        assert refused["code"] == "token_not_suitable" and missing in refused["detail"], refused
    assert blank.token.pkcs11_tool("-O").strip() == ""
    token.control()
    blank.init()
