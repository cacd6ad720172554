"""The action that a workflow deploys with, its script run as GitHub's runner does: the verdict, and how it is told."""

import html
import os
import re
import shutil
import subprocess

import yaml

from tests.action.runner import DEPLOY, inputs, needs
from tests.service import PASSWORD, ROOT

pytestmark = needs


def image(cluster):
    return cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"]


def test_complete(runner, service, cluster):
    service.deploy(image="acme/web:1")
    run = runner.run(inputs(service, image="acme/web:2"))
    assert run.exit_code == 0, run.log
    rollout = service.show(id=run.outputs["id"]).json()
    assert run.outputs == {
        "id": rollout["id"],
        "phase": "complete",
        "revision": "2",
        "digest": rollout["digest"],
        "rolled-back-to": "",
    }
    assert image(cluster) == "acme/web:2"
    assert run.commands("error") == run.commands("notice") == []
    assert f"ok: revision 2 of web in {cluster.namespace}, image acme/web:2, id {rollout['id']}\n" in run.log
    assert "complete: 1 pod is ready" in run.log
    before = rollout["history"][1]
    for row in (
        f"| deployment | web in {cluster.namespace} |",
        "| image | acme/web:2 |",
        f"| digest | {rollout['digest']} |",
        "| revision | 2 |",
        f"| replaced | revision 1, acme/web:1, {before['digest']} |",
    ):
        assert row in run.summary.splitlines()
    assert "### web: complete" in run.summary
    assert "| took | " in run.summary


def test_the_way_back_is_one_command_that_works(runner, service, cluster):
    service.deploy(image="acme/web:1")
    run = runner.run(inputs(service, image="acme/web:2"))
    [command] = [line for line in run.summary.splitlines() if line.startswith("curl ")]
    back = subprocess.run(
        ["sh", "-c", command], env={"PASSWORD": PASSWORD, "PATH": os.environ["PATH"]}, capture_output=True
    )
    assert back.stdout.startswith(b"ok: ")
    assert image(cluster).startswith("acme/web@sha256:")


def test_nothing_was_replaced_by_the_first_one(runner, service):
    run = runner.run(inputs(service))
    assert run.exit_code == 0, run.log
    assert "replaced" not in run.summary
    assert "way back" not in run.summary


def test_a_slow_rollout_shows_how_it_goes(runner, service):
    run = runner.run(inputs(service, image="acme/web:slow"))
    assert run.exit_code == 0, run.log
    lines = [line.partition(" s  ")[2] for line in run.log.splitlines() if " s  " in line]
    assert lines[0].startswith("progressing: ")
    assert lines[-1].startswith("complete: ")
    assert len(set(lines)) == len(lines)


def test_it_says_every_30_s_that_nothing_changes(runner, service, tmp_path):
    # Here it says so at each answer, as the time between two of them is more than a second.
    script, found = re.subn(r"(?m)^readonly REPEAT=30 ", "readonly REPEAT=1 ", (DEPLOY / "deploy.sh").read_text())
    assert found == 1
    (tmp_path / "deploy.sh").write_text(script)
    shutil.copy(DEPLOY / "inputs.sh", tmp_path)
    run = runner.run(inputs(service, image="acme/web:unready", timeout="10s"), GITHUB_ACTION_PATH=str(tmp_path))
    lines = [line.partition(" s  ") for line in run.log.splitlines() if " s  " in line]
    seconds = [int(second) for second, _, text in lines if text == lines[-1][2]]
    assert len(seconds) > 1, run.log
    assert len(set(seconds)) == len(seconds)


def test_it_waits_longer_than_kubernetes_by_default():
    """A rollout that hangs has its verdict after `progressDeadlineSeconds` (600) and some settling time."""
    default = yaml.safe_load((DEPLOY / "action.yml").read_text())["inputs"]["timeout"]["default"]
    assert default == "15m"
    assert f"${{INPUT_TIMEOUT:-{default}}}" in (DEPLOY / "inputs.sh").read_text()
    assert f"| `timeout` | `{default}` |" in (ROOT / "docs" / "github-actions.md").read_text()


def test_a_failure_is_red_and_says_why(runner, patient_service):
    service = patient_service
    service.deploy(image="acme/web:1")
    run = runner.run(inputs(service, image="acme/web:crash"))
    assert run.exit_code == 1
    assert (run.outputs["phase"], run.outputs["rolled-back-to"]) == ("failed", "")
    [error] = run.commands("error")
    assert error.startswith("failed: revision 2 of web does not start\n")
    assert "container web: CrashLoopBackOff, exit code 1" in error
    last_words = service.show(id=run.outputs["id"]).json()["causes"][0]["logs"][-1]
    assert f"\n  {last_words}\n" in error
    assert "changed since revision 1, the last that worked: image acme/web:1 -> acme/web:crash" in error
    assert "### web: failed" in run.summary
    assert f"\n{last_words}</pre>\n" in html.unescape(run.summary)
    assert "- image: acme/web:1 -&#62; acme/web:crash" in run.summary
    assert f"{service.url}/deployment/web/rollback" in run.summary


def test_a_failure_is_rolled_back_where_that_is_wanted(runner, service, cluster):
    service.deploy(image="acme/web:1")
    run = runner.run(inputs(service, image="acme/web:missing", rollback_on_failure="true"))
    assert run.exit_code == 1
    assert (run.outputs["phase"], run.outputs["rolled-back-to"]) == ("failed", "1")
    assert "rolled back to revision 1" in run.commands("error")[0]
    assert "| rolled back to | revision 1 |" in run.summary
    assert "way back" not in run.summary
    assert image(cluster).startswith("acme/web@sha256:")


def test_a_rollout_that_a_newer_push_supersedes_is_a_notice(runner, service, cluster):
    running = runner.start(inputs(service, image="acme/web:slow"))
    cluster.wait_for(lambda: cluster.get("web"))
    assert service.deploy(image="acme/web:3").status == 200
    run = running.ended()
    assert run.exit_code == 0, run.log
    assert run.outputs["phase"] == "superseded"
    assert run.commands("error") == []
    assert run.commands("notice")[0].startswith("superseded: ")


def test_no_verdict_in_time_is_red(runner, service):
    run = runner.run(inputs(service, image="acme/web:unready", timeout="2s"))
    assert run.exit_code == 1
    assert run.outputs["phase"] == "progressing"
    [error] = run.commands("error")
    assert error.startswith("no verdict within 2 s: progressing: ")
    assert f"ask again at {service.url}/deployment/web?id={run.outputs['id']}" in error
    assert "### web: progressing" in run.summary


def test_a_deployment_that_is_paused_meanwhile_is_waited_for(runner, service, cluster):
    running = runner.start(inputs(service, image="acme/web:slow", timeout="4s"))
    cluster.wait_for(lambda: cluster.get("web"))
    cluster.patch({"spec": {"paused": True}})
    run = running.ended()
    assert (run.exit_code, run.outputs["phase"]) == (1, "paused")
    assert "no verdict within 4 s: paused: " in run.commands("error")[0]
