"""cred import: the good lines go in, the bad ones are named."""

import json


def line(principal, app="app", **fields):
    fields = fields or {"user": "u", "password": f"p of {principal}"}
    return json.dumps({"app": app, "principal": principal, "external_user": "e", "fields": fields})


def test_broken_lines_are_named_and_the_others_go_in(running):
    running.create_app("off", enable=False)
    lines = [
        line("one"),                                      # 1
        '{"app":"app","principal":"two", oops',           # 2
        line("three"),                                    # 3
        line("four", app="none"),                         # 4
        line("five", user="u"),                           # 5
        line("six", user="u", password="p", surplus="s"), # 6
        line("seven"),                                    # 7
        line("eight", app="off"),                         # 8
        "",                                               # 9
        "[1, 2]",                                         # 10
        line("eleven\u0000"),                             # 11
        line("twelve"),                                   # 12
    ]
    data = "\n".join(lines).encode() + b"\n" + line("thirteen").encode().replace(b"thirteen", b"\xff")
    done = running.sso("cred", "import", "-", data=data + b"\n" + line("fourteen").encode(), check=3)
    summary = done.json
    assert summary["created"] == 5 and summary["updated"] == 0
    bad = {error["line"]: error["code"] for error in summary["errors"]}
    bad.pop(9, None)  # an empty line may be skipped or refused
    assert set(bad) == {2, 4, 5, 6, 8, 10, 11, 13}
    assert bad[4] == "not_found" and bad[8] == "application_disabled"
    assert all(bad[number] == "bad_request" for number in (2, 5, 6, 10, 11, 13)), bad
    assert summary["failed"] == len(summary["errors"]) and summary["errors_left_out"] == 0
    for number in bad:
        assert f"line {number}" in done.err or f":{number}:" in done.err, number
    assert "p of" not in done.err
    for principal in ("one", "three", "seven", "twelve", "fourteen"):
        assert running.password("app", principal) == f"p of {principal}"


def test_import_updates(running):
    running.sso("cred", "import", "-", data=line("a") + "\n" + line("b"), check=0)
    done = running.sso("cred", "import", "-", check=0, data="\n".join(
        [line("a", user="u", password="new"), line("c")])).json
    assert (done["read"], done["created"], done["updated"], done["failed"]) == (2, 1, 1, 0)
    assert running.password("app", "a") == "new" and running.password("app", "b") == "p of b"


def test_only_the_first_100_errors_are_listed(running):
    done = running.sso("cred", "import", "-", data="broken\n" * 150, check=3).json
    assert done["failed"] == 150 and len(done["errors"]) == 100 and done["errors_left_out"] == 50
    assert done["errors"][0]["line"] == 1 and done["errors"][99]["line"] == 100


def test_import_of_several_applications(running):
    running.create_app("second")
    lines = [line(f"p{n}", app=("app", "second")[n % 2]) for n in range(3000)]
    done = running.sso("cred", "import", "-", data="\n".join(lines), check=0).json
    assert done["created"] == 3000
    assert running.password("second", "p2999") == "p of p2999"
    assert running.look_up("app", "p2999").status == 404


def test_no_such_file(running):
    refused = running.sso("cred", "import", "/nowhere/input.jsonl")
    assert refused.code == 1 and "/nowhere/input.jsonl" in refused.problem["detail"]


def test_import_from_a_file_and_export_again(running, tmp_path):
    source = tmp_path / "input.jsonl"
    source.write_text("\n".join(line(f"p{n:04d}", user=f"u{n}", password="ü" * (n % 90 + 1))
                                for n in range(500)))
    running.sso("cred", "import", source, check=0)
    exported = running.sso("cred", "export", "app", check=0).lines
    assert exported == [json.loads(text) for text in source.read_text().splitlines()]


def test_overlong_line(running):
    """A line that cannot be a credential is refused by number; memory stays bounded."""
    data = line("one") + "\n" + '{"app":"' + "x" * 5_000_000 + '"}\n' + line("three")
    done = running.sso("cred", "import", "-", data=data, check=3).json
    assert done["created"] == 2 and [error["line"] for error in done["errors"]] == [2]


def test_without_external_user_it_is_what_the_mapping_says(running):
    mapping = {"app": "app", "principal": "anna", "external_user": "ANNA01"}
    running.api("POST", "/v1/apps:import", {"mappings": [mapping]}, status=200)
    lines = [{"app": "app", "principal": principal, "fields": {"user": "u", "password": "x"}, **more}
             for principal, more in (("anna", {}), ("bert", {"external_user": None}))]
    done = running.sso("cred", "import", "-", data="".join(json.dumps(line) + "\n" for line in lines), check=0)
    assert done.json["created"] == 2
    found = {row["principal"]: row["external_user"]
             for row in running.sso("cred", "list", "app", check=0).json["credentials"]}
    assert found == {"anna": "ANNA01", "bert": "bert"}
    wrong = json.dumps({**lines[0], "external_user": 5})
    assert running.sso("cred", "import", "-", data=wrong + "\n", check=3).json["failed"] == 1
