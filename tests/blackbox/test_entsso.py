"""import-entsso: files of Microsoft Enterprise SSO, as administrators of it have them lying around."""

import json

import pytest

APPLICATIONS = """<?xml version="1.0"?>
<SSO>
  <application name="SAP.Payroll">
    <description> Payroll </description><contact>hr@corp.example</contact>
    <appUserAccount>CORP\\HR Users; CORP\\Managers</appUserAccount>
    <appAdminAccount>corp\\HR Admins</appAdminAccount>
    <field ordinal="0" label="User ID" masked="no"/>
    <field ordinal="2" label="Client" masked="no"/>
    <field ordinal="1" label="Password" masked="Yes"/>
    <flags groupApp="no" configStoreApp="no" allowTickets="yes" validateTickets="yes"
           timeoutTickets="yes" appTicketTimeout="7" enableApp="yes" windowsInitiatedSSO="yes" disableCredCache="yes"
           adminAccountSame="yes"/>
  </application>
  <Application NAME="Shared">
    <appUserAccount>CORP\\Managers</appUserAccount><appAdminAccount>CORP\\HR Admins</appAdminAccount>
    <field ordinal="0" label="User ID"/><field ordinal="1" label="Password" masked="yes"/>
    <flags groupApp="yes"/>
  </Application>
  <application name="Store">
    <field ordinal="0" label="url"/><field ordinal="1" label="token" masked="yes"/>
    <flags configStoreApp="yes"/>
  </application>
</SSO>
"""
MAPPINGS = """<sso><mapping>
  <windowsDomain>CORP</windowsDomain><windowsUserId>anna</windowsUserId>
  <externalApplication>SAP.Payroll</externalApplication><externalUserId>ANNA01</externalUserId>
</mapping></sso>"""
SETTINGS = """<sso><globalInfo><ssoAdminAccount>CORP\\SSO Admins</ssoAdminAccount><secretServer>OLD</secretServer>
  <auditDeletedApps>1000</auditDeletedApps><ticketTimeout>5</ticketTimeout>
  <credCacheTimeout>90</credCacheTimeout></globalInfo></sso>"""
MAP = """# groups and people
CORP\\HR Users = hr
CORP\\Managers = managers
CORP\\HR Admins = hr-admins
CORP\\anna = anna
"""


@pytest.fixture
def files(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    write.map = write("map", MAP)
    return write


def state(it):
    return (it.api("GET", "/v1/apps").json, it.api("GET", "/v1/settings").json,
            it.api("GET", "/v1/mappings?principal=anna").json)


def test_all_of_it(initialised, files):
    it = initialised.start()
    paths = [files("apps.xml", APPLICATIONS), files("mappings.xml", MAPPINGS), files("settings.xml", SETTINGS)]
    before = state(it)
    tried = it.sso("import-entsso", *paths, "--map", files.map, "--dry-run", check=0).json
    assert (tried["apps"], tried["mappings"], tried["settings"], tried["dry_run"]) == (3, 1, 2, True)
    assert state(it) == before, "a dry run changes nothing"
    done = it.sso("import-entsso", *paths, "--map", files.map, check=0)
    notes = {note["element"] for note in done.json["notes"]}
    assert notes == {"flags", "ssoAdminAccount", "secretServer", "auditDeletedApps"}
    apps = {app["name"]: app for app in it.sso("app", "list", check=0).json["apps"]}
    payroll = apps["SAP.Payroll"]
    assert payroll["type"] == "individual" and payroll["enabled"] and payroll["description"] == "Payroll"
    assert payroll["users"] == ["hr", "managers"] and payroll["admins"] == "hr-admins"
    assert payroll["fields"] == [{"label": "Password", "masked": True}, {"label": "Client", "masked": False}]
    assert payroll["allow_tickets"] and payroll["validate_tickets"] and not payroll["cache"]
    assert payroll["ticket_lifetime_minutes"] == 7 and apps["Shared"]["ticket_lifetime_minutes"] is None
    assert apps["Shared"]["type"] == "group" and not apps["Shared"]["enabled"]
    assert apps["Store"]["type"] == "config" and len(apps["Store"]["fields"]) == 2
    mapping = it.api("GET", "/v1/apps/SAP.Payroll/mappings/anna", status=200).json
    assert mapping["state"] == "enabled" and mapping["external_user"] == "ANNA01"
    settings = {each["name"]: each["value"] for each in it.api("GET", "/v1/settings").json["settings"]}
    assert settings["tickets.lifetime"] == "5m" and settings["cache.lease"] == "90m"
    records = [(each["operation"], each["target"]) for each in it.sso("audit", "export", check=0).lines]
    for record in (("app.create", "Shared"), ("mapping.set", "SAP.Payroll/anna"), ("app.import", "dry run")):
        assert record in records
    assert it.sso("db", "check", "--open", check=0).json["ok"]


def test_nothing_half(initialised, files):
    """One application of three exists already: the others are not made either."""
    it = initialised.start()
    it.create_app("store")
    before = state(it)
    a_xml = files("a.xml", APPLICATIONS)
    refused = it.sso("import-entsso", files("m.xml", MAPPINGS), files("s.xml", SETTINGS), a_xml, "--map", files.map, check=1)
    assert refused.problem["code"] == "already_exists" and f"{a_xml}:19: apps[2]" in refused.problem["detail"]
    assert state(it) == before


def test_each_bad_element_is_named_with_its_line(initialised, files):
    it = initialised.start()
    path = files("bad.xml", """<sso>
<globalnfo/>
<application name="a">
<field ordinal="0" label="u"/>
<field ordinal="1" label="p" maskd="yes"/>
<flags groupApp="maybe"/>
<colour>red</colour>
</application>
<application name="b">
<windowsAccount>D\\x</windowsAccount>
<appUserAccount>D\\nobody</appUserAccount>
<field ordinal="5" label="u"/>
</application>
<mapping>
<windowsDomain>D</windowsDomain>
</mapping>
<globalInfo><ticketTimeout>0</ticketTimeout></globalInfo>
</sso>""")
    before = state(it)
    done = it.sso("import-entsso", path, check=1, as_json=False)
    for line, element in ((2, "globalnfo"), (5, "field"), (6, "flags"), (7, "colour"), (10, "windowsAccount"),
                          (11, "appUserAccount"), (9, "application"), (14, "mapping"), (17, "ticketTimeout")):
        assert f"{path}:{line}: <{element}> " in done.err, (line, element, done.err)
    assert "nothing was changed" in done.err and state(it) == before


@pytest.mark.parametrize("text", [
    "", "<sso>", "<sso></sso", "nonsense", "<other/>", "<sso>&x;</sso>",
    '<!DOCTYPE sso [<!ENTITY x "y">]><sso/>', '<!DOCTYPE sso SYSTEM "file:///etc/passwd"><sso/>',
    "<sso><mapping/></sso>", "<sso><application/></sso>"])
def test_bad_files(shared, files, text):
    before = state(shared)
    done = shared.sso("import-entsso", files("x.xml", text), check=1)
    assert done.problem["code"] == "bad_request" and state(shared) == before


@pytest.mark.parametrize("text", ["CORP\\x", "CORP = x", "CORP\\x =", "CORP\\x = a\ncorp\\X = b"])
def test_bad_maps(shared, files, text):
    done = shared.sso("import-entsso", files("a.xml", "<sso/>"), "--map", files("bad-map", text), check=1)
    assert "bad-map:" in done.problem["detail"]


def test_who_may(initialised, files, people):
    affiliate = people.group("affiliate")
    person = people.user(affiliate)
    initialised.write_config(roles={"affiliate_admins": affiliate})
    initialised.start()
    body = {"apps": [], "mappings": [], "settings": {"cache.lease": "5m"}}
    assert initialised.api("POST", "/v1/apps:import", body, uid=person.pw_uid).status == 403
    body["settings"] = {}
    assert initialised.api("POST", "/v1/apps:import", body, uid=person.pw_uid).status == 200


@pytest.mark.parametrize("body", [
    None, {"apps": {}}, {"apps": ["x"]}, {"apps": [{"name": "x"}]}, {"mappings": [{}]}, {"surplus": 1},
    {"mappings": [{"app": "no-such", "principal": "a", "external_user": "b"}]},
    {"settings": {"no.such": "1"}}, {"settings": {"cache.lease": "soon"}}, {"settings": []},
    {"apps": [{"name": "y", "type": "individual", "fields": [{"label": "a"}], "enabled": 1}]}])
def test_bad_bodies_change_nothing(shared, body):
    before = state(shared)
    reply = shared.api("POST", "/v1/apps:import", body)
    assert reply.status in (400, 404), reply
    assert json.dumps(state(shared)) == json.dumps(before)


def test_tickets_of_an_application_live_by_its_own_time(initialised, files):
    """Whole minutes from 1 to 525,600, said by who runs the system; without an end there are none."""
    it = initialised.start()
    text = """<sso><application name="a"><field ordinal="0" label="u"/><field ordinal="1" label="p"/>
<flags allowTickets="yes" timeoutTickets="no" appTicketTimeout="%s"/></application></sso>"""
    for wrong in ("0", "525601", "5m", ""):
        refused = it.sso("import-entsso", files("a.xml", text % wrong), "--map", files.map, check=1)
        assert "a.xml:2: <flags> appTicketTimeout" in refused.err
    done = it.sso("import-entsso", files("a.xml", text % "525600"), "--map", files.map, check=0)
    assert [note["detail"] for note in done.json["notes"]] == ["timeoutTickets is left out: tickets always expire here"]
    assert it.sso("app", "show", "a", check=0).json["ticket_lifetime_minutes"] == 525600
