"""The workflow of the original blog post, whose action posts what is no JSON."""

import os
import subprocess

import pytest

from tests.service import PASSWORD

# https://github.com/AcrylicShrimp/webhook-action/blob/master/entrypoint.sh
ENTRYPOINT = """\
curl -X POST -H 'Content-Type: application/json' --data '{ "data": "'$data'" }' $WEBHOOK_URL
"""


def run(service, data, path="/deployment"):
    environ = {"PATH": os.environ["PATH"], "data": data, "WEBHOOK_URL": service.url + path}
    return subprocess.run(["sh", "-c", ENTRYPOINT], env=environ, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    "data",
    [f'{{"pw":"{PASSWORD}"}}', f'{{\\"pw\\":\\"{PASSWORD}\\"}}', f'{{"pw":"{PASSWORD}","image":"acme/web:1"}}'],
    ids=["unescaped", "escaped", "with-an-image"],
)
@pytest.mark.parametrize("path", ["/deployment", "/deployment/web"])
def test_the_action_deploys(service, cluster, data, path):
    action = run(service, data, path)
    assert action.returncode == 0
    assert action.stdout.startswith("ok")
    assert cluster.get("web")
    cluster.wait_for(cluster.replica_sets)


@pytest.mark.parametrize("data", ['{"pw":"wrong"}', '{\\"pw\\":\\"wrong\\"}', "{}"])
def test_the_action_never_fails_a_run_but_says_what_is_wrong(service, cluster, data):
    action = run(service, data)
    assert (action.returncode, action.stdout) == (0, "wrong or missing password\n")
    assert cluster.get("web") is None


def test_the_action_can_carry_no_spaces(service, cluster):
    # The shell makes several words of it: curl sends half a body, if anything.
    assert "ok" not in run(service, f'{{"pw": "{PASSWORD}"}}').stdout
    assert cluster.get("web") is None
