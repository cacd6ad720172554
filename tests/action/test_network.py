"""What can happen between the action and the service: nothing is rolled out twice, and no verdict is lost."""

import os
import subprocess
import time
from dataclasses import replace

import pytest

from tests.action.runner import DEPLOY, Gateway, inputs, needs
from tests.conftest import deployment
from tests.service import PASSWORD, free_port, wait_for
from tests.simulation.node import BEHAVIOURS

pytestmark = needs


@pytest.fixture
def gateway(service):
    gateway = Gateway(service.port)
    yield gateway
    gateway.close()


def image(cluster):
    return cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_server_that_is_away_is_red(runner, service):
    run = runner.run(inputs(service, url=f"http://127.0.0.1:{free_port()}", timeout="2s"))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert "can't be reached" in error
    assert "nothing was signalled" in error


def test_a_server_that_comes_back_is_signalled(runner, service, gateway, cluster):
    gateway.next_posts = ["drop", 502, 503]
    run = runner.run(inputs(gateway))
    assert run.exit_code == 0, run.log
    assert len(gateway.posts) == 4
    assert len(service.show().json()["history"]) == 1
    assert "it answers 502; sending the signal again" in run.log


def test_dropped_connections_and_bad_gateways_are_asked_through(runner, service, gateway):
    service.deploy(image="acme/web:1")
    running = runner.start(inputs(gateway, image="acme/web:slow"))
    wait_for(lambda: gateway.posts)
    gateway.next_gets = ["drop", 502, "lose", "cut", 503, 504, 404]
    run = running.ended()
    assert run.exit_code == 0, run.log
    assert gateway.next_gets == []
    assert len(gateway.posts) == 1
    assert "no word from auto-deployer: it answers 502; asking again" in run.log


def test_a_service_that_is_restarted_meanwhile_still_gives_the_verdict(runner, services, cluster):
    service = services("restarted", SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    running = runner.start(inputs(service, image="acme/web:slow"))
    cluster.wait_for(lambda: cluster.get("web"))
    service.kill()
    service.start()
    run = running.ended()
    assert run.exit_code == 0, run.log
    assert run.outputs["phase"] == "complete"


@pytest.mark.parametrize("away_for", [{"text/plain", "text/markdown"}, {"text/markdown"}])
def test_a_server_that_goes_away_after_the_verdict_takes_only_the_words_along(
    runner, service, gateway, cluster, away_for
):
    service.deploy(image="acme/web:1")
    gateway.away_for = away_for
    run = runner.run(inputs(gateway, image="acme/web:missing"))
    assert run.exit_code == 1
    assert (run.outputs["phase"], run.outputs["revision"]) == ("failed", "2")
    [error] = run.commands("error")
    assert error.startswith("failed: ")
    assert "does not start" in error
    assert "acme/web:missing" in error
    assert run.summary == ""
    assert "the summary of the job is missing: it answers 503" in run.log


def test_a_server_that_is_away_when_the_time_is_up_leaves_the_last_answer(runner, service, cluster):
    ports = [service.port]
    gateway = Gateway(lambda: ports[-1])
    running = runner.start(inputs(gateway, image="acme/web:unready", timeout="4s"))
    cluster.wait_for(lambda: len(gateway.seen) > 2)
    ports.append(None)
    run = running.ended()
    gateway.close()
    assert run.exit_code == 1
    assert run.outputs["phase"] == "progressing"
    [error] = run.commands("error")
    assert error.startswith("no verdict within 4 s: progressing: 0 of 1 updated pods")
    assert f"ask again at {gateway.url}/deployment/web?id={run.outputs['id']}" in error
    assert run.summary == ""
    assert "the summary of the job is missing: it answers 503" in run.log


def test_the_words_are_asked_for_again_when_the_service_is_away_for_a_moment(runner, service, gateway):
    gateway.away_for = {"text/plain", "text/markdown"}
    running = runner.start(inputs(gateway))
    wait_for(lambda: gateway.refused)
    gateway.away_for = set()
    run = running.ended()
    assert run.exit_code == 0, run.log
    assert "### web: complete" in run.summary


@pytest.mark.parametrize("fate", ["lose", "cut", "late"])
def test_a_signal_whose_answer_got_lost_is_sent_again_and_rolled_out_once(runner, service, gateway, cluster, fate):
    service.deploy(image="acme/web:1")
    gateway.next_posts = [fate]
    run = runner.run(inputs(gateway, image="acme/web:2"))
    assert run.exit_code == 0, run.log
    assert image(cluster) == "acme/web:2"
    assert run.outputs["phase"] == "complete"
    assert len(gateway.posts) == 2
    assert len(set(gateway.keys)) == 1
    time.sleep(2 if fate == "late" else 0)
    assert len(service.show().json()["history"]) == 2


@pytest.mark.parametrize("fate", ["drop", "lose", 503])
def test_a_signal_that_never_gets_an_answer_is_red(runner, service, gateway, cluster, fate):
    service.deploy(image="acme/web:1")
    gateway.next_posts = [fate] * 30
    run = runner.run(inputs(gateway, image="acme/web:2", timeout="3s"))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert error.startswith("the signal's answer got lost: ")
    assert "it isn't known whether the signal arrived" in error
    assert run.outputs == {}
    assert len(service.show().json()["history"]) == (2 if fate == "lose" else 1)


def test_what_another_sender_rolls_out_is_not_taken_for_the_lost_one(runner, service, gateway, cluster):
    gateway.next_posts = ["drop"]
    running = runner.start(inputs(gateway, image="acme/web:2"))
    wait_for(lambda: gateway.posts)
    service.deploy(cause="another push")
    run = running.ended()
    assert run.exit_code == 0, run.log
    history = service.show().json()["history"]
    assert [each["image"] for each in history] == ["acme/web:2", "acme/web:1"]
    assert run.outputs["id"] == history[0]["id"]


def test_a_lost_signal_that_was_superseded_meanwhile_is_found(runner, service, gateway):
    gateway.next_posts = ["lose"]
    running = runner.start(inputs(gateway, image="acme/web:slow"))
    wait_for(lambda: gateway.posts)
    wait_for(lambda: service.show().status != 404)
    service.deploy(cause="another push")
    run = running.ended()
    assert (run.exit_code, run.outputs["phase"]) == (0, "superseded"), run.log
    assert len(service.show().json()["history"]) == 2


def test_what_is_no_auto_deployer_is_said_to_be_none(runner, service, gateway):
    gateway.next_posts = [200]
    run = runner.run(inputs(gateway))
    assert run.exit_code == 1
    assert run.commands("error") == [
        f"what answers at {gateway.url}/deployment/web is no auto-deployer: it answers 200"
    ]
    assert len(gateway.posts) == 1


def test_each_step_of_a_workflow_has_a_key_of_its_own(runner, service, gateway):
    """Jobs of a matrix have the same run, attempt and step."""
    run = {"GITHUB_RUN_ID": "17001", "GITHUB_RUN_ATTEMPT": "2", "GITHUB_ACTION": "__acme_auto-deployer_2." + "x" * 120}
    for _ in range(2):
        assert runner.run(inputs(gateway), **run).exit_code == 0
    assert all(key.startswith("17001-2-__acme_auto-deployer_2.x") and len(key) <= 128 for key in gateway.keys)
    assert len(set(gateway.keys)) == len(service.show().json()["history"]) == 2
    run["GITHUB_ACTION"] = "deploy"
    assert runner.run(inputs(gateway), **run).exit_code == 0
    assert gateway.keys[-1].startswith("17001-2-deploy-web-")


@pytest.mark.simulated_only
@pytest.mark.parametrize(
    ("image", "shown"), [("acme/web:crash", "&lt;b&gt;`bold`"), ("acme/web:badconfig", "&#60;b&#62;&#96;bold&#96;")]
)
def test_nothing_that_comes_from_elsewhere_is_a_command_or_markup(runner, patient_service, monkeypatch, image, shown):
    """Neither a program's log nor a kubelet's message gives commands to the workflow or markup to the summary."""
    hostile = "\n::error::forged\n##[error]forged |</pre><b>`bold`"
    monkeypatch.setitem(BEHAVIOURS, "crash", replace(BEHAVIOURS["crash"], log=tuple(hostile.split("\n"))))
    monkeypatch.setitem(BEHAVIOURS, "badconfig", replace(BEHAVIOURS["badconfig"], secret=hostile))
    patient_service.configure("web", deployment(image=image))
    run = runner.run(inputs(patient_service))
    assert run.exit_code == 1
    assert [error.partition(":")[0] for error in run.commands("error")] == ["failed"]
    assert "::error::forged" in run.commands("error")[0]
    assert "</pre><b>" not in run.summary
    assert shown in run.summary


def test_it_runs_outside_github_too(service):
    environ = {"PATH": os.environ["PATH"], "INPUT_URL": service.url, "INPUT_PASSWORD": PASSWORD}
    run = subprocess.run(["bash", DEPLOY / "deploy.sh"], env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
