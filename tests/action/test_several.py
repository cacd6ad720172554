"""Several deployments in one step: all are signalled, then all are followed."""

import json

import pytest

from tests.action.runner import Gateway, inputs, needs
from tests.conftest import deployment

pytestmark = needs


@pytest.fixture
def service(quick_service):
    quick_service.configure("worker", deployment("worker"))
    return quick_service


@pytest.mark.parametrize("names", ["web, worker", "web,worker", "web\nworker\n", " web\r\n,worker,", "web worker\n"])
def test_two_are_signalled_and_followed(runner, service, cluster, names):
    run = runner.run(inputs(service, deployment=names))
    assert run.exit_code == 0, run.log
    rollouts = {name: service.show(name).json() for name in ("web", "worker")}
    values = ("id", "phase", "revision", "digest", "rolled_back_to")
    assert run.outputs.keys() == {"rollouts"}
    assert json.loads(run.outputs["rollouts"]) == {
        name: {value: rollout[value] for value in values} for name, rollout in rollouts.items()
    }
    assert rollouts["web"]["phase"] == rollouts["worker"]["phase"] == "complete"
    for name in rollouts:
        assert f" s  {name}: complete: " in run.log
        assert f"### {name}: complete" in run.summary.splitlines()
    # Both were signalled before either was followed.
    assert run.log.rindex("signalled: ") < run.log.index(" s  ")


@pytest.mark.parametrize("bad", ["web", "worker"])
def test_one_that_fails_is_red_and_the_other_is_followed(runner, service, cluster, bad):
    good = {"web": "worker", "worker": "web"}[bad]
    service.configure(bad, deployment(bad, image="acme/web:missing"))
    service.configure(good, deployment(good, image="acme/web:slow"))
    run = runner.run(inputs(service, deployment="web, worker"))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert error.startswith(f"failed: revision 1 of {bad} does not start\n")
    phases = {name: each["phase"] for name, each in json.loads(run.outputs["rollouts"]).items()}
    assert phases == {bad: "failed", good: "complete"}
    assert f"### {bad}: failed" in run.summary
    assert f"### {good}: complete" in run.summary
    # The failure is shown at once, and not only after the slow one's verdict.
    assert run.log.index(f"{bad}: failed: ") < run.log.index(f"{good}: complete: ")


def test_both_fail(runner, service, cluster):
    run = runner.run(inputs(service, deployment="web, worker", image="acme/web:missing"))
    assert run.exit_code == 1
    assert [error.partition("\n")[0] for error in run.commands("error")] == [
        f"failed: revision 1 of {name} does not start" for name in ("web", "worker")
    ]


def test_one_that_is_refused_is_red_and_the_other_is_followed(runner, service, cluster):
    run = runner.run(inputs(service, deployment="wep, worker"))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert error.startswith("wep: no deployment wep is configured")
    assert json.loads(run.outputs["rollouts"]).keys() == {"worker"}
    assert "### worker: complete" in run.summary


def test_all_are_refused(runner, service, cluster):
    run = runner.run(inputs(service, deployment="web, worker", password="wrong-horse-battery-staple"))
    assert run.exit_code == 1
    assert run.commands("error") == ["web: wrong or missing password", "worker: wrong or missing password"]
    assert (run.outputs, run.summary) == ({}, "")


def test_one_has_no_verdict_in_time(runner, service, cluster):
    service.configure("worker", deployment("worker", image="acme/web:unready"))
    run = runner.run(inputs(service, deployment="web, worker", timeout="5s"))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert error.startswith("no verdict within 5 s: progressing: revision 1 of worker: ")
    assert "### worker: progressing" in run.summary


def test_both_are_rolled_back(runner, service, cluster):
    for tag in (1, 2):
        for name in ("web", "worker"):
            service.deploy(name, image=f"acme/web:{tag}", wait=True)
    run = runner.run(inputs(service, deployment="web, worker", rollback="true"))
    assert run.exit_code == 0, run.log
    assert [each["rolled_back_to"] for each in json.loads(run.outputs["rollouts"]).values()] == [1, 1]


def test_a_lost_answer_is_repeated_for_the_one_that_lost_it(runner, service, cluster):
    gateway = Gateway(service.port)
    gateway.next_posts = [None, "lose"]
    run = runner.run(inputs(gateway, deployment="web, worker"))
    gateway.close()
    assert run.exit_code == 0, run.log
    assert gateway.posts == ["/deployment/web", *["/deployment/worker"] * 2]
    assert len(set(gateway.keys)) == 2
    for name in ("web", "worker"):
        assert len(service.show(name).json()["history"]) == 1
