"""docs/openapi.yaml is true: every operation in it is sent and answers as it says."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from installation import MY_GROUP, Installation, wait_for

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
METHODS = ("get", "put", "post", "patch", "delete")
OPERATIONS = sorted(((operation.get("x-drive-order", 1), number, method.upper(), path)
                     for number, (path, item) in enumerate(DOCUMENT["paths"].items())
                     for method, operation in item.items() if method in METHODS),
                    key=lambda row: (row[0], ("PUT", "POST", "PATCH", "GET", "DELETE").index(row[2])
                                     if row[0] == 1 else row[1]))


def as_json_schema(node):
    """OpenAPI 3.0 says nullable where JSON Schema has the type null."""
    if isinstance(node, list):
        return [as_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_json_schema(value) for key, value in node.items()}
    if "$ref" in node:
        return {"$ref": node["$ref"].replace("#/components/schemas/", "#/definitions/")}
    return {"anyOf": [node, {"type": "null"}]} if node.pop("nullable", False) else node


DEFINITIONS = as_json_schema(DOCUMENT["components"]["schemas"])


def validate(value, schema):
    jsonschema.Draft4Validator({**as_json_schema(schema), "definitions": DEFINITIONS}).validate(value)


class House:
    def __init__(self, installation, people):
        self.it = installation
        group, admins = people.group("users"), people.group("admins")
        self.second, self.user = people.user(admins), people.user(group)
        installation.write_config(roles={"sso_admins": f"{MY_GROUP}, {admins}"})
        installation.init()
        installation.start()
        installation.create_app("app", users=group)
        installation.api("PATCH", "/v1/apps/app", {"allow_tickets": True}, status=200)
        installation.put("app", self.user.pw_name, "x", status=201)
        installation.sso("app", "create", "conf", "--type", "config", "--field", "url", "--field",
                         "token:masked", check=0)
        installation.sso("app", "enable", "conf", check=0)
        # What some of the requests are about: tickets, and something to confirm.
        installation.sso("settings", "set", "tickets.allowed=yes", "keys.dual_control=yes", check=0)
        installation.sso("settings", "set", "keys.retired_keep=399d", check=1)

    def ticket(self):
        return self.it.api("POST", "/v1/tickets", {}, uid=self.user.pw_uid, status=200).json["ticket"]

    def send(self, method, path, operation):
        drive = operation.get("x-drive", {})
        for name, value in drive.get("path", {}).items():
            path = path.replace("{" + name + "}", value)
        assert "{" not in path, "x-drive names every place of the path"
        body = drive.get("body")
        text = None if body is None else json.dumps(body)
        if text is not None and "{ticket}" in text:
            text = text.replace("{ticket}", self.ticket())
            text = text.replace("{own}", self.user.pw_name)
        if text is not None and "FIRST_RECORD_HASH" in text:
            first = self.it.api("GET", "/v1/audit?limit=1", status=200).json["records"][0]
            text = text.replace("FIRST_RECORD_HASH", first["hash"])
        uid = self.second.pw_uid if drive.get("as") == "second" else None
        if operation["x-roles"] == ["app_user"]:
            uid = self.user.pw_uid
        query = "?" + drive["query"] if "query" in drive else ""
        return self.it.api(method, path + query, text.encode() if text is not None else None, uid=uid), text


@pytest.fixture(scope="module")
def house(people):
    installation = Installation()
    try:
        yield House(installation, people)
    finally:
        installation.close()


def check_answer(reply, operation):
    if "x-drive-problem" in operation:
        assert reply.code == operation["x-drive-problem"]
        return
    described = operation["responses"].get(str(reply.status))
    assert described is not None, f"{reply} is not documented"
    if "content" not in described:
        assert reply.body == b""
        return
    media, content = next(iter(described["content"].items()))
    assert reply.headers["Content-Type"].split(";")[0] == media
    if media == "application/json":
        validate(reply.json, content["schema"])
    for header in described.get("headers", {}):
        assert header in reply.headers, header


def test_every_operation(house):
    """In the order that the document gives, since one makes what the next is about."""
    for _, _, method, path in OPERATIONS:
        operation = DOCUMENT["paths"][path][method.lower()]
        if operation["operationId"] == "rotation_change":
            wait_for(lambda: house.it.rotation()["state"] == "completed", "the rotation is over")
        reply, body = house.send(method, path, operation)
        try:
            check_answer(reply, operation)
            if body is not None:
                validate(json.loads(body), operation["requestBody"]["content"]["application/json"]["schema"])
        except (AssertionError, jsonschema.ValidationError) as error:
            raise AssertionError(f"{method} {path}: {reply}: {error}") from error


def test_refusals_are_problems(house):
    schema = DOCUMENT["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"]
    stranger = 65534
    for _, _, method, path in OPERATIONS:
        if path == "/v1/health":
            continue
        reply = house.it.api(method, re.sub("{[a-z]+}", "1", path), uid=stranger)
        assert reply.status in (400, 403), (path, reply)
        assert reply.headers["Content-Type"] == "application/problem+json", (path, reply)
        validate(reply.json, schema)


def test_what_is_not_documented_does_not_exist(house):
    documented = {(method, re.sub("{[a-z]+}", "1", path)) for _, _, method, path in OPERATIONS}
    # A place takes any text, a verb behind it too: what such a path names is for the operation.
    for path in {path for _, path in documented if "1:" not in path}:
        for method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
            if (method, path) not in documented:
                reply = house.it.api(method, path)
                assert reply.status in (404, 405, 501), (method, path, reply)


def test_the_document_itself():
    """Every reference leads somewhere, every operation has its roles and a summary."""
    text = json.dumps(DOCUMENT)
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in DOCUMENT["components"]["schemas"], name
    for _, _, method, path in OPERATIONS:
        operation = DOCUMENT["paths"][path][method.lower()]
        assert operation["summary"] and operation["x-roles"] and "default" in operation["responses"]
