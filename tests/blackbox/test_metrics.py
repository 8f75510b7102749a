"""Metrics as Prometheus reads them: promtool takes them, in every state that a custodian is in."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from installation import stop_process, wait_for

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool (Debian package prometheus)")


def metrics(installation):
    reply = installation.api("GET", "/metrics", status=200)
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return reply.body


def check(text):
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode() + text.decode()


@needs_promtool
def test_promtool_takes_them_before_there_is_anything(blank):
    blank.start(wait=None)
    check(metrics(blank))


@needs_promtool
def test_promtool_takes_them_after_work_and_trouble(running):
    running.fill(50)
    running.put("app", "anna", "x", status=201)
    assert running.password("app", "anna") == "x"
    assert running.look_up("app", "nobody").status == 404
    running.api("PUT", "/v1/apps/app/credentials/anna", b"nonsense", status=400)
    running.api("GET", "/no/such/operation", status=404)
    running.sso("rotate", "--no-backup", check=0)
    text = metrics(running)
    check(text)
    for name in (b"sso_hsm_requests_total", b"sso_hsm_cache_entries", b"sso_hsm_workers"):
        assert name in text, name
    running.token.write_pin("0000-wrong")
    for pid in running.worker_pids():
        stop_process(pid)
    wait_for(lambda: not running.api("GET", "/v1/health").json.get("encrypt"), "the token is gone")
    check(metrics(running))


def test_an_operation_counts_by_outcome(running):
    def count(operation, outcome):
        for line in metrics(running).decode().splitlines():
            if line.startswith("sso_hsm_requests_total") and f'"{operation}"' in line and f'"{outcome}"' in line:
                return float(line.split()[-1])
        return 0.0

    running.look_up("app", "nobody")
    before = count("credential.lookup", "not_found")
    assert before >= 1
    for _ in range(3):
        running.look_up("app", "nobody")
    assert count("credential.lookup", "not_found") == before + 3
    times = 'sso_hsm_request_duration_seconds_count{operation="credential.lookup",outcome="not_found"}'
    assert f"{times} {before + 3:.0f}" in metrics(running).decode().splitlines()


def openmetrics(installation):
    accept = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"
    reply = installation.api("GET", "/metrics", headers={"Accept": accept}, status=200)
    assert reply.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return reply.body.decode()


@needs_promtool
def test_openmetrics_by_accept(running, tmp_path):
    """`promtool check metrics` takes Prometheus' own format only; its importer parses this one, and
    wants a time for each sample."""
    assert running.put("app", "anna", "x").status == 201
    text = openmetrics(running)
    assert text.endswith("\n# EOF\n") and text.count("# EOF") == 1
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert "sso_hsm_requests" in names and not any(name.endswith("_total") for name in names)
    assert 'sso_hsm_requests_total{operation="credential.set",outcome="ok"} 1' in text.splitlines()
    plain = metrics(running).decode()
    assert "# EOF" not in plain
    families = {line.split()[2].removesuffix("_total") for line in plain.splitlines() if line.startswith("# TYPE")}
    assert families == names

    def check_import(lines, code):
        source = tmp_path / "metrics"
        source.write_text("\n".join(lines) + "\n")
        done = subprocess.run([PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", source,
                               tmp_path / "blocks"], capture_output=True, check=False)
        assert (done.returncode == 0) == (code == 0), done.stdout.decode() + done.stderr.decode()

    lines = [line if line.startswith("#") else f"{line} 1700000000.000" for line in text.splitlines()]
    check_import(lines, 0)
    check_import(lines[:-1], 1)  # the control: without its end it is not taken


def test_a_line_for_each_request(make_installation):
    installation = make_installation(system={"log_level": "debug"})
    installation.init()
    installation.start()
    installation.create_app()
    installation.put("app", "anna", "a-secret", status=201)
    reply = installation.look_up("app", "anna", status=200)
    refused = installation.look_up("app", "nobody", status=404)
    log = installation.log.read_text()
    for each, outcome in (reply, "ok"), (refused, "not_found"):
        line = [line for line in log.splitlines() if f'request="{each.headers["X-Request-Id"]}"' in line]
        assert len(line) == 1 and 'operation="credential.lookup"' in line[0], line
        assert f'outcome="{outcome}"' in line[0] and "microseconds=" in line[0]
    assert "a-secret" not in log and "a-secret" in reply.body.decode()


RULES = Path(__file__).resolve().parents[2] / "docs" / "alerts.rules.yml"


@needs_promtool
def test_promtool_takes_the_alert_rules():
    done = subprocess.run([PROMTOOL, "check", "rules", RULES], capture_output=True, check=False)
    assert done.returncode == 0 and b"SUCCESS" in done.stdout, done


def test_alert_rules_name_metrics_that_there_are(running):
    wanted = set(re.findall(r"sso_hsm_\w+", "\n".join(
        line for line in RULES.read_text().splitlines() if "expr:" in line)))
    there = set(re.findall(r"^(sso_hsm_\w+)", metrics(running).decode(), re.M))
    assert wanted and wanted <= there, wanted - there
    assert b"sso_hsm_master 1\n" in metrics(running)
