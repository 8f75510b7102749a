"""Tickets: issued for oneself, redeemed once by an application's administrators; each wrong one has
its own code."""

import subprocess

import pytest

from installation import Installation, wait_for
from preloads import MovedClock, preload


class House:
    def __init__(self, installation, people, environment=None):
        self.it = installation
        self.users, admins = people.group("users"), people.group("admins")
        self.user, self.other, self.admin = people.user(self.users), people.user(self.users), people.user(admins)
        self.stranger = people.user()
        installation.init()
        installation.config.chmod(0o644)
        installation.start(environment=environment)
        installation.create_app("app", users=self.users, admins=admins)
        installation.create_app("strict", users=self.users, admins=admins)
        for app in ("app", "strict"):
            for person in (self.user, self.other):
                installation.put(app, person.pw_name, f"of {person.pw_name}", status=201)

    def allow(self, **flags):
        """Everything as a test wants it, whatever the one before left."""
        self.it.api("PATCH", "/v1/settings", {"tickets.allowed": flags.get("allowed", True),
                                              "tickets.validate": flags.get("validate", False)}, status=200)
        for app, validate in (("app", False), ("strict", True)):
            self.it.api("PATCH", f"/v1/apps/{app}", {"allow_tickets": flags.get("app", True),
                                                     "validate_tickets": validate}, status=200)

    def issue(self, person=None, **options):
        return self.it.api("POST", "/v1/tickets", {}, uid=(person or self.user).pw_uid, **options)

    def ticket(self, person=None):
        return self.issue(person, status=200).json["ticket"]

    def redeem(self, ticket, sender=None, app="app", person=None):
        body = {"app": app, "ticket": ticket}
        if sender is not None:
            body["sender"] = sender
        return self.it.api("POST", "/v1/tickets:redeem", body, uid=(person or self.admin).pw_uid)


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


@pytest.fixture(scope="module")
def clocked(people):
    """A house whose wall clock can be moved."""
    installation, shim = Installation(), preload("moved_clock")
    clock = MovedClock(installation)
    try:
        house = House(installation, people, {"LD_PRELOAD": shim, "MOVED_CLOCK": str(clock.path)})
        house.clock = clock
        yield house
    finally:
        installation.close()


def test_off_unless_the_system_and_the_application_say_so(house):
    assert house.issue().code == "tickets_disabled", "off after init"
    house.allow()
    ticket = house.ticket()
    house.allow(app=False)
    assert house.redeem(ticket).code == "tickets_disabled"
    house.allow(allowed=False)
    assert house.redeem(ticket).code == "tickets_disabled"
    assert house.issue().code == "tickets_disabled"
    house.allow()
    assert house.redeem(ticket).status == 200


def test_once_and_for_its_user(house):
    house.allow()
    ticket = house.ticket()
    given = house.redeem(ticket).json
    assert given["principal"] == house.user.pw_name
    assert given["fields"]["password"] == f"of {house.user.pw_name}"
    again = house.redeem(ticket)
    assert again.status == 409 and again.code == "ticket_replayed"
    assert house.redeem(ticket, app="strict", sender=house.user.pw_name).code == "ticket_replayed"
    house.it.restart()
    assert house.redeem(ticket).code == "ticket_replayed", "also after a restart"
    other = house.ticket(house.other)
    assert house.redeem(other).json["principal"] == house.other.pw_name


def test_the_sender(house):
    """Validation is wanted where the system, the application, or the ticket itself says so."""
    me = house.user.pw_name
    house.allow()
    assert house.redeem(house.ticket(), sender=house.other.pw_name).code == "ticket_wrong_sender"
    ticket = house.ticket()
    assert house.redeem(ticket, app="strict").code == "ticket_wrong_sender"
    assert house.redeem(ticket, app="strict", sender=me).status == 200
    ticket = house.ticket()
    house.allow(validate=True)
    assert house.redeem(ticket).code == "ticket_wrong_sender"
    ticket = house.ticket()
    house.allow(validate=False)
    assert house.redeem(ticket).code == "ticket_wrong_sender", "it was issued under validation"
    assert house.redeem(ticket, sender=me).status == 200


def test_wrong_tickets(house, make_installation):
    house.allow()
    ticket = house.ticket()
    middle = len(ticket) // 2
    changed = ticket[:middle] + ("A" if ticket[middle] != "A" else "B") + ticket[middle + 1:]
    assert house.redeem(changed).code == "ticket_forged"
    assert house.redeem(ticket[:-30]).code in ("ticket_forged", "ticket_invalid")
    for none in ("x", "AAAA", "not a ticket", "ü", ticket + "=", "A" * 1000):
        assert house.redeem(none).code in ("ticket_invalid", "bad_request"), none
    assert house.redeem("A" * 5000).code == "bad_request"
    assert house.redeem(ticket).status == 200, "it was not spent by all that"
    elsewhere = make_installation()
    elsewhere.init()
    elsewhere.start()
    elsewhere.create_app("app", users=house.users)
    elsewhere.sso("settings", "set", "tickets.allowed=yes", check=0)
    foreign = elsewhere.api("POST", "/v1/tickets", {}, uid=house.user.pw_uid, status=200).json["ticket"]
    assert house.redeem(foreign).code == "ticket_of_other_system"


def test_who_may(house):
    house.allow()
    assert house.issue(house.stranger).status == 403
    assert house.issue(house.admin).status == 403, "tickets are for users of an application"
    ticket = house.ticket()
    assert house.redeem(ticket, person=house.user).status == 403
    assert house.it.api("POST", "/v1/tickets", {"principal": house.other.pw_name},
                        uid=house.user.pw_uid).status == 400
    assert house.redeem(ticket, app="no-such-app").status == 403
    for flag in ("allow_tickets", "validate_tickets"):
        reply = house.it.api("PATCH", "/v1/apps/app", {flag: False}, uid=house.admin.pw_uid)
        assert reply.status == 403, "its own administrators do not decide on tickets"
    assert house.redeem(ticket).status == 200


def test_who_is_no_user_any_more(house):
    house.allow()
    ticket = house.ticket(house.other)
    house.it.api("PATCH", "/v1/apps/app", {"users": []}, status=200)
    assert house.redeem(ticket).code == "ticket_user_not_allowed"
    house.it.api("PATCH", "/v1/apps/app", {"users": [house.users]}, status=200)
    subprocess.run(["usermod", "-G", "", house.other.pw_name], check=True)
    wait_for(lambda: house.issue(house.other).status == 403, "he lost the group")
    assert house.redeem(ticket).code == "ticket_user_not_allowed"
    subprocess.run(["usermod", "-a", "-G", house.users, house.other.pw_name], check=True)
    wait_for(lambda: house.issue(house.other).status == 200, "he has the group again")
    assert house.redeem(ticket).json["principal"] == house.other.pw_name


def test_what_forbids_a_lookup_forbids_this_too(house):
    house.allow()
    ticket, path = house.ticket(), f"/v1/apps/app/mappings/{house.user.pw_name}"
    house.it.api("PUT", path, {"enabled": False}, status=200)
    assert house.redeem(ticket).code == "mapping_disabled"
    house.it.api("PUT", path, {"enabled": True}, status=200)
    house.it.api("PATCH", "/v1/settings", {"system.enabled": False}, status=200)
    assert house.redeem(ticket).code == "system_disabled" == house.issue().code
    house.it.api("PATCH", "/v1/settings", {"system.enabled": True}, status=200)
    assert house.redeem(ticket).status == 200


def test_a_rotation_moves_the_key(house):
    house.allow()
    ticket = house.ticket()
    house.it.sso("rotate", "--no-backup", check=0)
    house.it.restart()
    assert house.redeem(ticket).status == 200
    with house.it.sql() as database:
        rows = database.execute("SELECT generation FROM sealed_keys WHERE purpose = 'ticket'").fetchall()
        active = database.execute("SELECT number FROM generations WHERE state = 2").fetchall()
    assert [row[0] for row in rows] == [active[0][0]]
    house.it.check_open()


def test_no_key_of_a_compromised_generation(house):
    """As somebody who owns the database would mark it: then nothing of it counts."""
    house.allow()
    ticket = house.ticket()
    with house.it.sql() as database:
        born = database.execute("SELECT born FROM sealed_keys WHERE purpose = 'ticket'").fetchone()[0]
        kept = database.execute("SELECT tag FROM generations WHERE number = ?", [born]).fetchone()[0]
        database.execute("UPDATE generations SET tag = zeroblob(32) WHERE number = ?", [born])
        # The second where the service itself looked at its generations meanwhile.
        assert house.redeem(ticket).code in ("ticket_forged", "policy_tampered")
        database.execute("UPDATE generations SET tag = ? WHERE number = ?", [kept, born])
    wait_for(lambda: house.redeem(ticket).status == 200, "the row is right again")


def test_the_audit_and_the_tool(house):
    house.allow()
    issued = house.it.sso("ticket", "issue", user=house.user, as_json=False, check=0).out.strip()
    given = house.it.sso("ticket", "redeem", "app", data=issued + "\n", user=house.admin, check=0).json
    assert given["fields"]["password"] == f"of {house.user.pw_name}"
    replayed = house.it.sso("ticket", "redeem", "app", data=issued, user=house.admin, check=1)
    assert replayed.problem["code"] == "ticket_replayed"
    house.it.sso("ticket", "redeem", "app", data="", user=house.admin, check=1)
    text = house.it.sso("audit", "export", check=0).out
    assert issued not in text and issued not in house.it.log_text()
    last = [each for each in house.it.sso("audit", "export", check=0).lines
            if each["operation"] == "ticket.redeem"]
    assert [each["outcome"] for each in last[-2:]] == ["ok", "ticket_replayed"]
    assert last[-1]["target"] == f"app/{house.user.pw_name}" and last[-1]["actor"] == house.admin.pw_name


def test_expired(clocked):
    """By the system's lifetime, or in its place by that of the application."""
    house, it, clock, app = clocked, clocked.it, clocked.clock, "/v1/apps/app"
    house.allow()

    def after(seconds, **fields):
        """What a ticket gives so long after it was issued."""
        if fields:
            it.api("PATCH", app, fields, status=200)
        ticket = house.ticket()
        clock.move(seconds)
        return house.redeem(ticket)

    assert after(110).status == 200
    assert after(130).code == "ticket_expired"
    it.sso("settings", "set", "tickets.lifetime=1m", check=0)
    assert after(70).code == "ticket_expired"
    assert after(70, ticket_lifetime_minutes=5).status == 200, "its own, and longer"
    assert after(310).code == "ticket_expired"
    it.sso("settings", "set", "tickets.lifetime=10m", check=0)
    assert after(310).code == "ticket_expired", "its own, and shorter"
    assert after(310, ticket_lifetime_minutes=None).status == 200, "the system's again"
    ticket = house.ticket()
    it.api("PATCH", app, {"ticket_lifetime_minutes": 1}, status=200)
    clock.move(70)
    assert house.redeem(ticket).code == "ticket_expired", "shorter at once"


def test_no_ticket_lives_again(clocked):
    """A ticket that was redeemed is remembered for as long as any application would take it; where a
    lifetime becomes longer later, that counts for tickets from then on."""
    house, it, clock = clocked, clocked.it, clocked.clock
    house.allow()
    it.sso("settings", "set", "tickets.lifetime=2m", check=0)
    it.api("PATCH", "/v1/apps/app", {"ticket_lifetime_minutes": None}, status=200)
    it.api("PATCH", "/v1/apps/strict", {"ticket_lifetime_minutes": 525600}, status=200)
    long, short = house.ticket(), house.ticket()
    assert house.redeem(long).status == 200
    clock.move(200 * 86400)
    assert house.redeem(house.ticket()).status == 200, "what is over is forgotten now"
    assert house.redeem(long, app="strict", sender=house.user.pw_name).code == "ticket_replayed"
    it.api("PATCH", "/v1/apps/app", {"ticket_lifetime_minutes": 525600}, status=200)
    assert house.redeem(short).code == "ticket_expired", "it is older than that"
    assert house.redeem(short, app="strict", sender=house.user.pw_name).status == 200
    again = house.ticket()
    clock.move(200 * 86400)
    assert house.redeem(again).status == 200


def test_who_says_how_long(house, people):
    house.allow()
    it, group = house.it, people.group("affiliates")
    affiliate = people.user(group)
    it.write_config(roles={"affiliate_admins": group})
    it.restart()
    path = "/v1/apps/app"
    for person in (house.admin, affiliate):
        refused = it.api("PATCH", path, {"ticket_lifetime_minutes": 5}, uid=person.pw_uid)
        assert refused.status == 403 and refused.code == "forbidden"
    assert it.api("PATCH", path, {"allow_tickets": True}, uid=affiliate.pw_uid).status == 200
    fields = [{"label": "password", "masked": True}]
    for body in ({"name": "new", "type": "individual", "fields": fields, "ticket_lifetime_minutes": 5},):
        assert it.api("POST", "/v1/apps", body, uid=affiliate.pw_uid).status == 403
        assert it.api("POST", "/v1/apps:import", {"apps": [body]}, uid=affiliate.pw_uid).status == 403
    for wrong in (0, 525601, -1, 1.5, "5m", True, []):
        assert it.api("PATCH", path, {"ticket_lifetime_minutes": wrong}).code == "bad_request", wrong
    made = it.sso("app", "update", "app", "--ticket-lifetime", "2h", check=0).json
    assert made["ticket_lifetime_minutes"] == 120
    shown = it.sso("app", "show", "app", as_json=False, check=0).out
    assert "tickets      yes, validated no, lifetime 120 minutes" in shown and "cache        yes" in shown
    for wrong in ("90s", "0m", "soon", ""):
        it.sso("app", "update", "app", "--ticket-lifetime", wrong, check=2)
    it.sso("app", "update", "app", "--ticket-lifetime", "366d", check=1)
    assert it.sso("app", "update", "app", "--ticket-lifetime", "default", check=0).json["ticket_lifetime_minutes"] is None
    with it.sql() as database:
        database.execute("UPDATE applications SET ticket_lifetime_ms = 60000 WHERE name = 'app'")
    try:
        assert it.api("GET", path).code == "policy_tampered"
    finally:
        with it.sql() as database:
            database.execute("UPDATE applications SET ticket_lifetime_ms = 0 WHERE name = 'app'")
