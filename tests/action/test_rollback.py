"""The way back from a workflow: a button, or the end of a smoke test that failed."""

import pytest

from tests.access.issuer import AUDIENCE
from tests.action.runner import Gateway, inputs, needs

pytestmark = needs


def image(cluster):
    return cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_rollback_brings_back_the_last_that_worked(runner, service, cluster):
    before = service.deploy(image="acme/web:1", wait=True).json()
    service.deploy(image="acme/web:2", wait=True)
    run = runner.run(inputs(service, rollback="true"))
    assert run.exit_code == 0, run.log
    assert image(cluster) == f"acme/web@{before['digest']}"
    assert (run.outputs["phase"], run.outputs["revision"], run.outputs["rolled-back-to"]) == ("complete", "3", "1")
    assert service.show().json()["history"][0]["cause"] == "rollback to revision 1: by octocat"
    assert "### web: complete" in run.summary
    assert "| rolled back to | revision 1 |" in run.summary


def test_a_rollback_to_a_revision(runner, service, cluster):
    digests = [service.deploy(image=f"acme/web:{tag}", wait=True).json()["digest"] for tag in (1, 2, 3)]
    run = runner.run(inputs(service, rollback="1", cause="the smoke test failed"))
    assert run.exit_code == 0, run.log
    assert image(cluster) == f"acme/web@{digests[0]}"
    assert service.show().json()["history"][0]["cause"] == "rollback to revision 1: the smoke test failed"


def test_rollback_false_deploys(runner, service, cluster):
    run = runner.run(inputs(service, rollback="false", image="acme/web:2"))
    assert run.exit_code == 0, run.log
    assert image(cluster) == "acme/web:2"


@pytest.mark.parametrize("revision", ["true", "1"])
def test_a_rollback_without_a_password(job, open_service, cluster, revision):
    for tag in (1, 2):
        run = job.run(inputs(open_service, password="", audience=AUDIENCE, image=f"acme/web:{tag}"))
        assert run.exit_code == 0, run.log
    run = job.run(inputs(open_service, password="", audience=AUDIENCE, rollback=revision))
    assert run.exit_code == 0, run.log
    assert run.outputs["rolled-back-to"] == "1"
    assert image(cluster).startswith("acme/web@sha256:")


def test_a_rollback_from_another_branch_is_refused(job, issuer, open_service):
    issuer.claims = {"ref": "refs/heads/dev"}
    run = job.run(inputs(open_service, password="", audience=AUDIENCE, rollback="true"))
    assert run.exit_code == 1
    assert run.commands("error") == ["this token is from refs/heads/dev; web may be deployed from refs/heads/master"]


def test_with_nothing_to_roll_back_to_it_is_red(runner, service, cluster):
    service.deploy(image="acme/web:1", wait=True)
    run = runner.run(inputs(service, rollback="true"))
    assert run.exit_code == 1
    assert "roll back to" in run.commands("error")[0]
    assert run.outputs == {}
    assert image(cluster) == "acme/web:1"


def test_what_was_rolled_back_already_is_not_rolled_back_further(runner, service, cluster):
    for tag in (1, 2):
        service.deploy(image=f"acme/web:{tag}", wait=True)
    assert runner.run(inputs(service, image="acme/web:missing", rollback_on_failure="true")).exit_code == 1
    before = image(cluster)
    run = runner.run(inputs(service, rollback="true"))
    assert run.exit_code == 1
    assert len(run.commands("error")) == 1
    assert image(cluster) == before


@pytest.mark.parametrize("fate", ["lose", "cut", "drop"])
def test_a_rollback_whose_answer_got_lost_goes_back_once(runner, service, cluster, fate):
    for tag in (1, 2, 3):
        service.deploy(image=f"acme/web:{tag}", wait=True)
    gateway = Gateway(service.port)
    gateway.next_posts = [fate]
    run = runner.run(inputs(gateway, rollback="true"))
    gateway.close()
    assert run.exit_code == 0, run.log
    assert gateway.posts == ["/deployment/web/rollback"] * 2
    assert run.outputs["rolled-back-to"] == "2"
    assert len(service.show().json()["history"]) == 4
