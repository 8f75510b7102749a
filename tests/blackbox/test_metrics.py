"""Metrics as Prometheus reads them: promtool takes them, in every state that a custodian is in."""

import shutil
import subprocess

import pytest

from installation import wait_for

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
        subprocess.run(["kill", "-9", str(pid)], check=False)
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
