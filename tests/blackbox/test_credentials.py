"""Credentials over the API: what comes back, versions, and what bad input gets."""

import concurrent.futures
import contextlib
import getpass
import json
import socket

import pytest

from installation import MY_GROUP, credential_path

FIELDS = {"user": "u", "password": "p"}


def body(**changes):
    return {"external_user": "ext", "fields": FIELDS, **changes}


def test_what_comes_back(shared):
    made = shared.api("PUT", credential_path("app", "anna"), body(), status=201)
    assert made.json["created"] is True and made.json["version"] == 1
    assert made.headers["ETag"] == '"1"' and "fields" not in made.json
    changed = shared.api("PUT", credential_path("app", "anna"),
                         body(fields={"user": "u", "password": "ß漢🔑"}), status=200)
    assert changed.json["created"] is False and changed.json["version"] == 2
    shown = shared.api("GET", credential_path("app", "anna"), status=200).json
    assert "fields" not in shown and shown["enabled"] is True and shown["version"] == 2
    found = shared.look_up("app", "anna", status=200).json
    assert set(found) >= {"app", "principal", "external_user", "fields", "version", "generation",
                          "updated"}
    assert found["app"] == "app" and found["principal"] == "anna"
    assert found["fields"] == {"user": "u", "password": "ß漢🔑"} and found["generation"] == 1
    shared.api("DELETE", credential_path("app", "anna"), status=204)
    assert shared.look_up("app", "anna").code == "not_found"
    assert shared.api("DELETE", credential_path("app", "anna")).status == 404


@pytest.mark.parametrize("principal", ["ünï-cødé", "a b", "a/b", "a?b=c", "%41", "100%", "..", "王伟",
                                       "x" * 256, "#", "+", "a;b", "O’Neil", "."])
def test_principals(shared, principal):
    shared.put("app", principal, "of " + principal, status=201)
    assert shared.password("app", principal) == "of " + principal
    shared.api("DELETE", credential_path("app", principal), status=204)


@pytest.mark.parametrize("principal", ["", "x" * 257, "a\x00b", "a\nb", "\x7f", "a\u0085b"])
def test_bad_principals(shared, principal):
    reply = shared.look_up("app", principal)
    assert reply.status == 400 and reply.code == "bad_request", reply
    if principal:
        reply = shared.put("app", principal, "x")
        assert reply.status == 400 and reply.code == "bad_request", reply


@pytest.mark.parametrize("raw", [b"a%ff", b"%c3%28", b"%ed%a0%80", b"%c0%af", b"%zz", b"a%4", b"%00"])
def test_principal_in_the_path_that_is_no_text(shared, raw):
    reply = shared.api("PUT", "/v1/apps/app/credentials/" + raw.decode(), body())
    assert reply.status == 400 and reply.code == "bad_request", reply


@pytest.mark.parametrize("bad", [
    {"external_user": "e"},
    body(fields={"user": "u"}),
    body(fields={"user": "u", "password": "p", "surplus": "s"}),
    body(fields={"user": "u", "pässword": "p"}),
    body(fields={"user": "u", "password": 5}),
    body(fields={"user": "u", "password": None}),
    body(fields=["user", "password"]),
    body(fields={}),
    body(external_user="x" * 257),
    body(external_user="a\nb"),
    body(external_user=7),
    body(surplus=1),
    body(fields={"user": "u", "password": "x" * 65537}),
    [], 5, "text", None,
])
def test_bad_bodies(shared, bad):
    reply = shared.api("PUT", credential_path("app", "bad"), bad)
    assert reply.status in (400, 413) and reply.code in ("bad_request", "too_large"), reply
    assert shared.look_up("app", "bad").status == 404


@pytest.mark.parametrize("raw", [
    b"", b"{", b"nonsense", b'{"external_user":"e","fields":{"user":"u","password":"p"}} x',
    b'{"external_user":"e","fields":{"user":"u","password":"\xff\xfe"}}',
    b'{"external_user":"e","fields":{"user":"u","password":"\xed\xa0\x80"}}',
    b'{"external_user":"e","fields":{"user":"u","user":"v","password":"p"}}',
    b'{"external_user":"e","fields":{"user":"u","password":"\\ud800"}}',
    b"[" * 5000 + b"]" * 5000,
])
def test_bodies_that_are_no_json(shared, raw):
    reply = shared.api("PUT", credential_path("app", "bad"), raw)
    assert reply.status == 400 and reply.code == "bad_request", reply
    assert shared.look_up("app", "bad").status == 404


def test_the_problem_object_tells_no_secret(shared):
    raw = b'{"external_user":"e","fields":{"user":"u","password":"Tr0ub4dor&3" oops}}'
    reply = shared.api("PUT", credential_path("app", "bad"), raw)
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    problem = reply.json
    assert set(problem) >= {"type", "title", "status", "code", "detail", "request_id"}
    assert problem["type"] == "urn:sso-hsm:bad_request" and problem["status"] == 400
    assert len(problem["request_id"]) == 32
    assert b"Tr0ub4dor" not in reply.body and "Tr0ub4dor" not in shared.log_text()


def test_largest_value(shared):
    value = "é" * 32768
    shared.put("app", "large", value, status=201)
    assert shared.password("app", "large") == value


def test_body_too_large(running):
    running.stop()
    running.write_config(limits={"max_body": "64K"})
    running.start()
    reply = running.api("PUT", credential_path("app", "anna"), b" " * 70000)
    assert reply.status == 413 and reply.code == "too_large"
    running.put("app", "anna", "x", status=201)


def test_if_match(shared):
    shared.put("app", "versioned", "one", status=201)
    stale = shared.put("app", "versioned", "never", headers={"If-Match": '"7"'})
    assert stale.status == 412 and stale.code == "version_conflict"
    assert shared.password("app", "versioned") == "one"
    assert shared.put("app", "versioned", "two", headers={"If-Match": '"1"'}, status=200)
    again = shared.put("app", "versioned", "never", headers={"If-Match": '"1"'})
    assert again.status == 412
    assert shared.password("app", "versioned") == "two"
    assert shared.put("app", "nobody", "x", headers={"If-Match": '"1"'}).status in (404, 412)
    bad = shared.put("app", "versioned", "never", headers={"If-Match": "nonsense"})
    assert bad.status in (400, 412)
    assert shared.api("DELETE", credential_path("app", "versioned"),
                      headers={"If-Match": '"1"'}).status == 412
    shared.api("DELETE", credential_path("app", "versioned"), headers={"If-Match": '"2"'},
               status=204)


def test_writers_without_if_match_never_lose_a_version(shared):
    """Each of 200 concurrent writes of one credential gets a version of its own."""
    def write(number):
        return shared.put("app", "contended", f"by {number}").json["version"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(write, range(200)))
    assert sorted(versions) == list(range(1, 201))
    assert shared.look_up("app", "contended").json["version"] == 200


def test_only_one_of_concurrent_if_match_writers_wins(shared):
    shared.put("app", "raced", "start", status=201)

    def write(number):
        return shared.put("app", "raced", f"by {number}", headers={"If-Match": '"1"'}).status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(write, range(16)))
    assert sorted(statuses) == [200] + [412] * 15


def test_unknown_application(shared):
    assert shared.put("none", "anna", "x").status == 404
    # To look up somebody else's takes a right in the application: there is none to have it in.
    assert shared.look_up("none", "anna").status in (403, 404)


def test_pages(running):
    running.fill(250)
    seen, after, pages = [], "", 0
    while after is not None:
        page = running.api("GET", credential_path("app").rstrip("/") +
                           f"?after={after}&limit=100", status=200).json
        seen += [row["principal"] for row in page["credentials"]]
        after, pages = page["next"], pages + 1
    assert seen == [f"p{n:06d}" for n in range(250)] and pages == 3
    assert all("fields" not in row and row["enabled"] for row in page["credentials"])
    for limit in ("0", "1001", "x", "-1"):
        assert running.api("GET", f"/v1/apps/app/credentials?limit={limit}").status == 400


def test_batch_one_bad_item_never_fails_the_others(shared):
    items = [{"principal": f"batch{n}", "external_user": "e", "fields": FIELDS} for n in range(5)]
    items[2] = {"principal": "batch2", "external_user": "e", "fields": {"user": "u"}}
    items[3] = {"principal": "bad\n", "external_user": "e", "fields": FIELDS}
    reply = shared.api("POST", "/v1/apps/app/credentials:batch", {"items": items}, status=200)
    result = reply.json["items"]
    assert [item.get("code") for item in result] == [None, None, "bad_request", "bad_request", None]
    assert all(result[n]["created"] and result[n]["version"] == 1 for n in (0, 1, 4))
    found = shared.api("POST", "/v1/lookup", {"items": [
        {"app": "app", "principal": f"batch{n}"} for n in range(5)]}, status=200).json["items"]
    assert [item.get("code") for item in found] == [None, None, "not_found", "not_found", None]
    assert found[4]["fields"] == FIELDS


def test_batch_with_one_principal_twice(shared):
    items = [{"principal": "twice", "external_user": "e", "fields": {**FIELDS, "password": text}}
             for text in ("first", "second")]
    result = shared.api("POST", "/v1/apps/app/credentials:batch", {"items": items},
                        status=200).json["items"]
    codes = [item.get("code") for item in result]
    if codes == [None, None]:
        assert [item["version"] for item in result] == [1, 2]
        assert shared.password("app", "twice") == "second"
    else:
        assert codes.count(None) == 1


def test_batch_limits(shared):
    too_many = [{"app": "app", "principal": "a"}] * 1001
    assert shared.api("POST", "/v1/lookup", {"items": too_many}).status in (400, 413)
    assert shared.api("POST", "/v1/lookup", {"items": []}).status in (200, 400)
    mixed = {"items": [{"app": "app", "principal": "a"}], "app": "app"}
    assert shared.api("POST", "/v1/lookup", mixed).status == 400


def test_unknown_paths_and_methods(shared):
    for method, path, expected in [("GET", "/", 404), ("GET", "/v1/nothing", 404),
                                   ("GET", "/v1/apps/a/b/c/d", 404), ("POST", "/v1/health", 404),
                                   ("GET", "/v1/../v1/health", 404), ("GET", "/v1//health", 404),
                                   ("DELETE", "/v1/rotation", 404)]:
        reply = shared.api(method, path)
        assert reply.status in (expected, 400, 405), (method, path, reply)
        assert reply.code in ("not_found", "bad_request"), (method, path, reply)


def test_hostile_http(shared):
    """Whatever comes in, the custodian answers or hangs up, and goes on serving."""
    for data in [b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 200000 + b" HTTP/1.1\r\n\r\n",
                 b"GET /v1/health HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                 b"POST /v1/lookup HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                 b"POST /v1/lookup HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                 b"POST /v1/lookup HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                 b"POST /v1/lookup HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"]:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer:
            peer.settimeout(5)
            peer.connect(str(shared.socket))
            with contextlib.suppress(OSError):
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass
    assert shared.api("GET", "/v1/health").status == 200


def test_keep_alive_and_pipelines(shared):
    with contextlib.closing(shared.connection()) as connection:
        for n in range(50):
            assert connection.call("PUT", credential_path("app", "kept"), body(
                fields={"user": "u", "password": f"p{n}"})).status in (200, 201)
            reply = connection.call("POST", "/v1/lookup", {"app": "app", "principal": "kept"})
            assert reply.json["fields"]["password"] == f"p{n}"


def test_lookup_of_the_own_principal(shared):
    """Without a principal it is the caller's own."""
    shared.put("app", getpass.getuser(), "mine", status=201)
    reply = shared.api("POST", "/v1/lookup", {"app": "app"}, status=200).json
    assert reply["principal"] == getpass.getuser() and reply["fields"]["password"] == "mine"


def test_export_comes_by_principal_and_reports_what_does_not_open(running):
    running.fill(30)
    lines = running.sso("cred", "export", "app", check=0).lines
    assert [line["principal"] for line in lines] == [f"p{n:06d}" for n in range(30)]
    assert set(lines[0]) == {"app", "principal", "external_user", "fields"}
    with running.sql() as sql:
        sql.execute("UPDATE credentials SET external_user = 'x' WHERE principal = 'p000007'")
    done = running.sso("cred", "export", "app", check=3)
    assert len(done.lines) == 29 and "p000007" in done.err and "row_corrupt" in done.err


def test_group_can_be_used_as_reader(shared):
    assert shared.sso("app", "show", "app").json["readers"] == MY_GROUP


def test_cli_set_get_list_delete(running):
    done = running.sso("cred", "set", "app", "anna", "--external-user", "ext", "--stdin",
                       data=json.dumps(FIELDS), check=0).json
    assert done["version"] == 1 and done["created"] is True
    assert running.sso("cred", "get", "app", "anna", check=0).json["fields"] == FIELDS
    listed = running.sso("cred", "list", "app", check=0).json
    assert [row["principal"] for row in listed["credentials"]] == ["anna"]
    assert listed["next"] is None
    assert running.sso("cred", "set", "app", "anna", "--stdin", data='{"user":"u"}',
                       check=1).problem["code"] == "bad_request"
    running.sso("cred", "delete", "app", "anna", check=0)
    assert running.sso("cred", "get", "app", "anna", check=1).problem["code"] == "not_found"
