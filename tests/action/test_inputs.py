"""What the action makes of its inputs, the good, the bad and the nasty; and what the service makes of them."""

import json
import shutil

import pytest

from tests.access.issuer import AUDIENCE
from tests.action.runner import inputs, needs
from tests.service import PASSWORD

pytestmark = needs

NASTY = """it's "quoted" `id` $(touch pwned) ${HOME} \\ %0A ::error::no | <b>&\n::error::forged\n##[error]forged"""

INPUTS = ["password", "deployment", "image", "cause", "timeout", "rollback_on_failure", "url", "rollback", "allow_http"]


def change_cause(cluster):
    return cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"]


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
        ({"url": "https://deploy.example.com/?x="}, "url: "),
        ({"url": "https://deploy.example.com/#"}, "url: "),
        ({"timeout": "soon"}, "timeout: "),
        ({"timeout": "1d"}, "timeout: "),
        ({"rollback_on_failure": "yes"}, "rollback-on-failure: "),
        ({"allow_http": "yes"}, "allow-http: "),
        ({"deployment": "web/../worker"}, "deployment: write the names"),
        ({"deployment": "web, worker, web"}, "deployment: web is there twice"),
        ({"rollback": "yes"}, "rollback: "),
        ({"rollback": "0"}, "rollback: "),
        ({"rollback": "-1"}, "rollback: "),
        ({"rollback": "1", "deployment": "web, worker"}, "rollback: each deployment has its own revisions"),
        ({"rollback": "true", "image": "acme/web:1"}, "image: a rollback brings back"),
        ({"rollback": "1", "rollback_on_failure": "false"}, "rollback-on-failure: auto-deployer never rolls back"),
        ({"password": ""}, "password: it is missing"),
        ({"password": "two\nlines"}, "password: it has several lines"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(runner, service, given, error):
    run = runner.run(inputs(service, **given))
    assert run.exit_code == 1
    assert run.commands("error")[0].startswith(error)


@pytest.mark.parametrize("url", ["http://deploy.example.com", "http://10.0.0.7:8080/deployment"])
def test_http_is_refused_and_why(runner, service, url):
    run = runner.run(inputs(service, url=url))
    assert run.exit_code == 1
    [error] = run.commands("error")
    assert error.startswith("url: http:// is refused: it sends the password in clear text")
    assert error.endswith("or allow-http: true where the runner is inside the cluster")


def test_http_is_allowed_where_the_input_says_so(runner, service):
    url = service.url.replace("127.0.0.1", "127.1")
    for refused in ("", "false"):
        assert runner.run(inputs(service, url=url, allow_http=refused)).exit_code == 1
    run = runner.run(inputs(service, url=url, allow_http="true"))
    assert run.exit_code == 0, run.log
    assert runner.run(inputs(service, url="file:///etc/passwd", allow_http="true")).exit_code == 1


@pytest.mark.parametrize("url", ["{}/", "{}/deployment", "{}/deployment/"])
def test_the_url_may_have_more_than_is_needed(runner, service, url):
    assert runner.run(inputs(service, url=url.format(service.url))).exit_code == 0


def test_a_password_with_a_line_end_is_taken_without_it(runner, service):
    assert runner.run(inputs(service, password=f"{PASSWORD}\r\n")).exit_code == 0


@pytest.mark.parametrize("name", INPUTS)
def test_no_input_is_run_or_breaks_the_log(runner, service, cluster, name):
    running = runner.start(inputs(service, **{name: NASTY}))
    run = running.ended()
    assert not (running.folder / "pwned").exists()
    assert run.exit_code == (0 if name == "cause" else 1)
    assert "no | <b>&" not in run.commands("error")
    assert run.exit_code == 0 or len(run.commands("error")) == 1
    assert "forged" not in run.commands("error")


def test_a_password_full_of_quotes_opens(runner, service):
    password = """a "right" 'password' `with` $(all) \\n of % | it"""
    service.password("default", password)
    run = runner.run(inputs(service, password=password))
    assert run.exit_code == 0, run.log
    assert run.commands("add-mask") == [password]


def test_a_runner_without_what_it_needs_is_told_so(runner, service, tmp_path):
    for tool in ("bash", "curl", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    run = runner.run(inputs(service), PATH=str(tmp_path))
    assert run.exit_code == 1
    assert run.commands("error") == ["this runner has no jq; install it in a step before"]


# Without a password


def test_a_job_without_a_password_sends_its_own_token(job, issuer, open_service, cluster):
    run = job.run(inputs(open_service, password="", audience=AUDIENCE))
    assert run.exit_code == 0, run.log
    assert run.outputs["phase"] == "complete"
    assert cluster.get("web")
    [token] = run.commands("add-mask")
    assert run.log.count(token) == 1
    assert issuer.requested == [AUDIENCE]
    # Where there is no password, the way back can't need one.
    run = job.run(inputs(open_service, password="", audience=AUDIENCE, image="acme/web:2"))
    assert f"kubectl rollout undo deployment/web --namespace {cluster.namespace}" in run.summary
    assert "$PASSWORD" not in run.summary


def test_the_audience_is_the_url_where_nothing_else_is_said(job, issuer, open_service):
    run = job.run(inputs(open_service, password="", url=f"{open_service.url}/deployment/"))
    assert issuer.requested == [open_service.url]
    assert run.commands("error") == ["this token isn't valid here"]


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
    assert change_cause(cluster) == 'Fix the "login" $(date) by Jäne O\'Neil'
    assert "| cause | Fix the &#34;login&#34; &#36;(date) by Jäne O'Neil |" in run.summary


def test_a_commit_without_a_message_is_named_by_its_number(runner, service, cluster, tmp_path):
    (tmp_path / "event.json").write_text(json.dumps({"head_commit": {"message": "", "author": {"name": "J"}}}))
    runner.run(inputs(service), GITHUB_EVENT_PATH=str(tmp_path / "event.json"))
    assert change_cause(cluster) == "0123456789ab by octocat"


def test_without_a_commit_the_cause_is_what_github_knows(runner, service, cluster):
    runner.run(inputs(service))
    assert change_cause(cluster) == "0123456789ab by octocat"


def test_a_cause_that_is_given_is_fitted(runner, service, cluster):
    run = runner.run(inputs(service, cause="x\x07" + " \n y" * 200))
    assert run.exit_code == 0, run.log
    assert change_cause(cluster) == ("x" + " y" * 200)[:256].strip()


# The run


RUN = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "octocat/web", "GITHUB_RUN_ID": "17001"}


@pytest.mark.parametrize(
    ("environ", "link"),
    [
        (RUN, "https://github.com/octocat/web/actions/runs/17001"),
        (RUN | {"GITHUB_SERVER_URL": "http://github.example.com"}, None),
        ({}, None),
    ],
)
def test_with_a_password_the_run_is_linked(runner, service, environ, link):
    run = runner.run(inputs(service), **environ)
    assert run.exit_code == 0, run.log
    assert service.show().json()["link"] == link


def test_a_token_says_by_itself_which_run_it_is_from(job, issuer, open_service):
    issuer.claims = {"run_id": "42", "actor": "octocat", "sha": "0123456789abcdef"}
    run = job.run(inputs(open_service, password="", audience=AUDIENCE), **RUN)
    assert run.exit_code == 0, run.log
    assert open_service.show(id=run.outputs["id"]).status == 403
    headers = {"Authorization": f"Bearer {issuer.token()}", "Accept": "application/json"}
    answer = open_service.ask("GET", f"/deployment/web?id={run.outputs['id']}", headers=headers).json()
    assert answer["link"].endswith("/octocat/web/actions/runs/42")
    assert "17001" not in run.log
