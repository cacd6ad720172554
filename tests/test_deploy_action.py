"""The action that a workflow deploys with: its script, run as GitHub's runner does, against the service."""

import html
import json
import os
import shutil
import subprocess

import pytest

from tests.action import DEPLOY, Gateway, Runner
from tests.conftest import deployment
from tests.issuer import AUDIENCE, REPOSITORY_ID, Issuer
from tests.service import PASSWORD, free_port, wait_for

pytestmark = pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="needs curl and jq")

NASTY = """it's "quoted" `id` $(touch pwned) ${HOME} \\ %0A ::error::no | <b>&\nsecond line"""


@pytest.fixture
def service(services, cluster):
    service = services(SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    return service


@pytest.fixture
def patient_service(services, cluster):
    """Serve with a second of settling time: what crashes is seen crashing."""
    service = services(SETTLE_SECONDS="1")
    service.reset(cluster.namespace)
    return service


@pytest.fixture
def gateway(service):
    gateway = Gateway(service.port)
    yield gateway
    gateway.close()


@pytest.fixture
def runner():
    return Runner()


def inputs(service, **given):
    given = {name.replace("_", "-"): value for name, value in given.items()}
    return {"url": service.url, "password": PASSWORD, "deployment": "web", "timeout": "60s"} | given


def image(cluster):
    return cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"]


def cause(cluster):
    return cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"]


# The verdict


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
    assert "complete: revision 2 of web: 1 pod is ready" in run.log
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
    back = subprocess.run(["sh", "-c", command], env={"PASSWORD": PASSWORD, **runner_path()}, capture_output=True)
    assert back.stdout.startswith(b"ok: ")
    assert image(cluster).startswith("acme/web@sha256:")


def runner_path():
    return {"PATH": os.environ["PATH"]}


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


def test_a_failure_is_red_and_says_why(runner, patient_service):
    service = patient_service
    service.deploy(image="acme/web:1")
    run = runner.run(inputs(service, image="acme/web:crash"))
    assert run.exit_code == 1
    assert (run.outputs["phase"], run.outputs["rolled-back-to"]) == ("failed", "")
    [error] = run.commands("error")
    assert error.startswith("failed: revision 2 of web: does not start\n")
    assert "container web: CrashLoopBackOff, exit code 1" in error
    last_words = service.show(id=run.outputs["id"]).json()["causes"][0]["logs"][-1]
    assert f"\n  {last_words}\n" in error
    assert "changed since the last rollout that worked: image: acme/web:1 -> acme/web:crash" in error
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


# Refusals


def test_a_wrong_password_is_red_at_once_and_shown_nowhere(runner, service, cluster):
    wrong = "wrong-horse-battery-staple"
    run = runner.run(inputs(service, password=wrong))
    assert run.exit_code == 1
    assert run.commands("error") == ["wrong or missing password"]
    assert run.commands("add-mask") == [wrong]
    assert run.log.count(wrong) == 1
    assert run.outputs == {}
    assert cluster.get("web") is None


def test_the_password_is_masked_before_anything_else_and_in_no_output(runner, service):
    run = runner.run(inputs(service))
    lines = run.log.splitlines()
    assert lines.index(f"::add-mask::{PASSWORD}") < min(n for n, line in enumerate(lines) if "signalled" in line)
    assert run.log.count(PASSWORD) == 1
    assert PASSWORD not in run.summary + str(run.outputs)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"image": "acme/other:1"}, "image: web doesn't run docker.io/acme/other"),
        ({"image": "acme/web"}, "image: 'acme/web' has neither tag nor digest"),
        ({"deployment": "wep"}, "no deployment wep is configured; there is /deployment/web"),
    ],
)
def test_what_the_service_refuses_is_red_in_its_words(runner, service, given, error):
    run = runner.run(inputs(service, **given))
    assert run.exit_code == 1
    assert run.commands("error")[0].startswith(error)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"url": ""}, "url: "),
        ({"url": "deploy.example.com"}, "url: "),
        ({"url": "http://deploy.example.com"}, "url: "),
        ({"url": "https://deploy.example.com/ x"}, "url: "),
        ({"url": "file:///etc/passwd"}, "url: "),
        ({"timeout": "soon"}, "timeout: "),
        ({"timeout": "1d"}, "timeout: "),
        ({"rollback_on_failure": "yes"}, "rollback-on-failure: "),
        ({"password": ""}, "password: it is missing"),
        ({"password": "two\nlines"}, "password: it has several lines"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(runner, service, given, error):
    run = runner.run(inputs(service, **given))
    assert run.exit_code == 1
    assert run.commands("error")[0].startswith(error)


@pytest.mark.parametrize("url", ["{}/", "{}/deployment", "{}/deployment/"])
def test_the_url_may_have_more_than_is_needed(runner, service, url):
    assert runner.run(inputs(service, url=url.format(service.url))).exit_code == 0


def test_a_password_with_a_line_end_is_taken_without_it(runner, service):
    assert runner.run(inputs(service, password=f"{PASSWORD}\r\n")).exit_code == 0


@pytest.mark.parametrize("name", ["password", "deployment", "image", "cause", "timeout", "rollback_on_failure", "url"])
def test_no_input_is_run_or_breaks_the_log(runner, service, cluster, name):
    running = runner.start(inputs(service, **{name: NASTY}))
    run = running.ended()
    assert not (running.folder / "pwned").exists()
    assert run.exit_code == (0 if name == "cause" else 1)
    assert "no | <b>&" not in run.commands("error")
    assert run.exit_code == 0 or len(run.commands("error")) == 1


def test_a_password_full_of_quotes_opens(runner, service):
    password = """a "right" 'password' `with` $(all) \\n of % | it"""
    service.password("default", password)
    run = runner.run(inputs(service, password=password))
    assert run.exit_code == 0, run.log
    assert run.commands("add-mask") == [password]


# Without a password


@pytest.fixture
def issuer():
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def job(issuer):
    """Run in a job that has the permission `id-token: write`."""
    asking = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{issuer.url}/token?api-version=2.0"}
    return Runner(asking | {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "a-token-for-a-token"})


@pytest.fixture
def open_service(services, issuer, cluster):
    """Serve without a password: the manifest names the workflow."""
    service = services(OIDC_AUDIENCE=AUDIENCE, OIDC_ISSUER=issuer.url, SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    service.password("default")
    manifest = deployment()
    annotations = {"auto-deployer/github-repository-id": REPOSITORY_ID, "auto-deployer/github-ref": "refs/heads/master"}
    manifest["metadata"]["annotations"] = annotations
    service.configure("web", manifest)
    return service


def test_a_job_without_a_password_sends_its_own_token(job, issuer, open_service, cluster):
    run = job.run(inputs(open_service, password="", audience=AUDIENCE))
    assert run.exit_code == 0, run.log
    assert run.outputs["phase"] == "complete"
    assert cluster.get("web")
    [token] = run.commands("add-mask")
    assert run.log.count(token) == 1
    assert issuer.requested == [AUDIENCE]


def test_the_audience_is_the_url_where_nothing_else_is_said(job, issuer, open_service):
    run = job.run(inputs(open_service, password="", url=f"{open_service.url}/deployment/"))
    assert issuer.requested == [open_service.url]
    assert run.commands("error") == ["wrong or missing password"]


def test_a_token_from_elsewhere_is_told_what_would_be_right(job, issuer, open_service):
    issuer.claims = {"ref": "refs/heads/dev"}
    run = job.run(inputs(open_service, password="", audience=AUDIENCE))
    assert run.exit_code == 1
    assert run.commands("error") == ["this token is from refs/heads/dev; web may be deployed from refs/heads/master"]


def test_a_password_that_is_given_is_what_counts(job, issuer, service):
    assert job.run(inputs(service)).exit_code == 0
    assert issuer.requested == []


def test_without_a_token_from_github_nothing_is_signalled(job, issuer, open_service):
    issuer.answer = b"{}"
    run = job.run(inputs(open_service, password="", timeout="1s"))
    assert run.exit_code == 1
    assert "GitHub gave no OIDC token; nothing was signalled" in run.commands("error")[0]


# The cause


def test_the_cause_is_the_commit(runner, service, cluster, tmp_path):
    commit = {"message": 'Fix the "login" $(date)\n\nIt\'s long.', "author": {"name": "Jäne O'Neil"}}
    (tmp_path / "event.json").write_text(json.dumps({"head_commit": commit}))
    run = runner.run(inputs(service), GITHUB_EVENT_PATH=str(tmp_path / "event.json"))
    assert run.exit_code == 0, run.log
    assert cause(cluster) == 'Fix the "login" $(date) by Jäne O\'Neil'
    assert "| cause | Fix the &#34;login&#34; &#36;(date) by Jäne O'Neil |" in run.summary


def test_without_a_commit_the_cause_is_what_github_knows(runner, service, cluster):
    runner.run(inputs(service))
    assert cause(cluster) == "0123456789ab by octocat"


def test_a_cause_that_is_given_is_fitted(runner, service, cluster):
    run = runner.run(inputs(service, cause="x\x07" + " \n y" * 200))
    assert run.exit_code == 0, run.log
    assert cause(cluster) == ("x" + " y" * 200)[:256].strip()


# What goes wrong on the way


def test_a_server_that_is_away_is_red(runner, service):
    run = runner.run(inputs(service, url=f"http://127.0.0.1:{free_port()}", timeout="2s"))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert "can't be reached" in error
    assert "nothing was signalled" in error


def test_a_server_that_comes_back_is_signalled(runner, service, gateway, cluster):
    gateway.next_gets = ["drop", 502, 503]
    run = runner.run(inputs(gateway))
    assert run.exit_code == 0, run.log
    assert len(gateway.posts) == 1


def test_dropped_connections_and_bad_gateways_are_asked_through(runner, service, gateway):
    service.deploy(image="acme/web:1")
    running = runner.start(inputs(gateway, image="acme/web:slow"))
    wait_for(lambda: gateway.posts)
    gateway.next_gets = ["drop", 502, "lose", 503, 504, 404]
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


@pytest.mark.parametrize("fate", ["lose", 502])
def test_a_signal_whose_answer_got_lost_is_found_and_not_sent_again(runner, service, gateway, cluster, fate):
    service.deploy(image="acme/web:1")
    if fate == "lose":
        gateway.next_posts = ["lose"]
        run = runner.run(inputs(gateway, image="acme/web:2"))
    else:
        gateway.next_posts = [504]
        running = runner.start(inputs(gateway, image="acme/web:2"))
        wait_for(lambda: gateway.posts)
        # It arrives late.
        service.signal("web", image="acme/web:2", cause="0123456789ab by octocat")
        run = running.ended()
    assert run.exit_code == 0, run.log
    assert image(cluster) == "acme/web:2"
    assert len(gateway.posts) == 1
    assert run.outputs["phase"] == "complete"
    assert len(service.show().json()["history"]) == 2


@pytest.mark.parametrize("fate", ["drop", 503])
def test_a_signal_that_may_have_arrived_is_never_sent_again(runner, service, gateway, cluster, fate):
    service.deploy(image="acme/web:1")
    gateway.next_posts = [fate]
    run = runner.run(inputs(gateway, image="acme/web:2", timeout="3s"))
    assert run.exit_code == 1
    assert len(gateway.posts) == 1
    assert "It isn't known whether the signal arrived, and it wasn't sent again" in run.commands("error")[0]


def test_somebody_elses_rollout_is_not_taken_for_the_lost_one(runner, service, gateway):
    gateway.next_posts = ["drop"]
    running = runner.start(inputs(gateway, image="acme/web:2", timeout="3s"))
    wait_for(lambda: gateway.posts)
    service.deploy(cause="another push")
    assert running.ended().exit_code == 1


def test_what_is_no_auto_deployer_is_said_to_be_none(runner, service, gateway):
    gateway.next_gets = [200]
    run = runner.run(inputs(gateway))
    assert run.exit_code == 1
    assert run.commands("error") == [
        f"what answers at {gateway.url}/deployment/web is no auto-deployer: it answers 200"
    ]
    assert gateway.posts == []


def test_nothing_that_comes_from_elsewhere_is_a_command_or_markup(runner, patient_service):
    """Whoever writes a program's log, or a message of a kubelet, says nothing in the workflow's name."""
    patient_service.configure("web", deployment(image="acme/web:crash"))
    gateway = Gateway(patient_service.port)
    gateway.replaced = ("CrashLoopBackOff", "\\n::error::forged\\n##[error]forged |</pre><b>`bold`")
    run = runner.run(inputs(gateway))
    gateway.close()
    assert run.exit_code == 1
    assert [error.partition(":")[0] for error in run.commands("error")] == ["failed"]
    assert "</pre><b>" not in run.summary
    assert "&#60;b&#62;&#96;bold&#96;" in run.summary


def test_it_runs_outside_github_too(service):
    environ = {**runner_path(), "INPUT_URL": service.url, "INPUT_PASSWORD": PASSWORD}
    run = subprocess.run(["bash", DEPLOY / "deploy.sh"], env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
