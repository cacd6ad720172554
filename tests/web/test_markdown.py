"""Answers about a rollout in Markdown: which answers have it, and the command that rolls back."""

import html
import re
import shlex

import pytest

from tests.access.issuer import AUDIENCE, REPOSITORY_ID, Issuer
from tests.conftest import deployment
from tests.service import PASSWORD
from tests.web.helpers import basic


@pytest.fixture
def service(quick_service):
    return quick_service


def ask(service, method="GET", path="/deployment/web", body=None, **headers):
    """Ask in Markdown, with the password in a header unless the headers say something else."""
    headers = {"Accept": "text/markdown", "Authorization": f"Bearer {PASSWORD}"} | headers
    return service.ask(method, path, body, headers)


def way_back(answer):
    """Return the command in the only code block of a summary."""
    [command] = re.findall(r"^```sh\n(.*)\n```$", answer.text, re.MULTILINE)
    assert answer.text.count("```") == command.count("```") + 2
    return command


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/markdown", "text/markdown"),
        ("text/markdown; charset=utf-8", "text/markdown"),
        ("text/markdown, */*;q=0.1", "text/markdown"),
        ("text/markdown, text/plain;q=0.9", "text/markdown"),
        ("text/plain;q=0.1, text/markdown;q=0.2", "text/markdown"),
        ("text/markdown;q=0.9, application/json;q=0.8", "text/markdown"),
        ("text/markdown;q=0.8, application/json;q=0.9", "application/json"),
        ("text/markdown;q=0.5, text/plain", "text/plain"),
        ("text/plain, text/markdown", "text/plain"),
        ("text/markdown;q=0", "text/plain"),
        ("text/*", "text/plain"),
        ("*/*", "text/plain"),
    ],
)
def test_an_answer_about_a_rollout_is_markdown_when_accept_prefers_it(service, accept, kind):
    service.deploy(image="acme/web:2")
    for answer in (
        ask(service, "POST", "/deployment/web", {"dry_run": True}, Accept=accept),
        ask(service, "POST", "/deployment/web", {}, Accept=accept),
        ask(service, "POST", "/deployment/web", {"wait": True}, Accept=accept),
        ask(service, "POST", "/deployment/web/rollback", {"revision": 1, "wait": True}, Accept=accept),
        ask(service, Accept=accept),
        ask(service, path="/deployment", Accept=accept),
    ):
        assert answer.headers.get_content_type() == kind
        assert answer.headers["Vary"] == "Accept"
        assert answer.status == 200
        assert answer.text.startswith("### web: ") == (kind == "text/markdown")


def test_html_comes_before_markdown_where_there_is_a_page(service):
    service.deploy()
    accept = "text/html, text/markdown;q=0.5"
    assert ask(service, Accept=accept).headers.get_content_type() == "text/html"
    assert ask(service, "POST", "/deployment/web", {}, Accept=accept).headers.get_content_type() == "text/markdown"


@pytest.mark.parametrize(("image", "status", "phase"), [("unready", 202, "progressing"), ("missing", 424, "failed")])
def test_the_status_says_the_phase_in_markdown_too(service, image, status, phase):
    answer = ask(service, "POST", "/deployment/web", {"image": f"acme/web:{image}", "wait": 5})
    assert (answer.status, answer.text.splitlines()[0]) == (status, f"### web: {phase}")


def test_every_other_answer_is_text(service):
    service.deploy()
    service.password("dockerhub", "9f86d081884c7d659a2feaa0")
    hook = {"push_data": {"tag": "1"}, "repository": {"repo_name": "acme/web"}}
    for answer in (
        ask(service, "POST", "/deployment/web", {}, Authorization="Bearer wrong-horse-battery-staple"),
        ask(service, "POST", "/deployment/web", "{"),
        ask(service, "POST", "/deployment/web", {"image": "acme/other:1"}),
        ask(service, "POST", "/deployment/web/rollback", {}),
        ask(service, path="/deployment/other"),
        ask(service, path="/deployment/web?id=unknown"),
        ask(service, "PUT"),
        ask(service, "POST", "/dockerhub/9f86d081884c7d659a2feaa0", hook),
        ask(service, path="/check"),
        ask(service, path="/healthz"),
    ):
        assert answer.headers.get_content_type() == "text/plain"


# The way back


@pytest.fixture
def twice(service):
    """Serve a deployment that has a rollout to go back to."""
    service.deploy(image="acme/web:1")
    service.deploy(image="acme/web:2")
    return service


@pytest.mark.parametrize("path", ["/deployment", "/deployment/web"])
def test_who_has_a_password_goes_back_by_the_url_that_was_asked(twice, path):
    body = {"pw": PASSWORD, "image": "acme/web:2", "wait": True}
    command = 'curl --data "{\\"pw\\": \\"$PASSWORD\\", \\"wait\\": true}" ' + f"{twice.url}{path}/rollback"
    assert way_back(ask(twice, path=path)) == command
    assert way_back(ask(twice, path=path, Authorization=basic(PASSWORD))) == command
    assert way_back(ask(twice, "POST", path, body, Authorization="")) == command
    assert "The way back" not in ask(twice, "POST", f"{path}/rollback", {"revision": 1, "wait": True}).text


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"Host": "deploy.example.com", "X-Forwarded-Proto": "https"}, "https://deploy.example.com"),
        ({"Host": "deploy.example.com:8443", "X-Forwarded-Proto": "http"}, "https://deploy.example.com:8443"),
        # In clear text only within the machine: the command sends a password.
        ({"Host": "deploy.example.com"}, "https://deploy.example.com"),
        ({"Host": "localhost.example.com"}, "https://localhost.example.com"),
        ({"Host": "[::1]:8080"}, "http://[::1]:8080"),
        ({"Host": "localhost"}, "http://localhost"),
        ({"Host": "deploy.example.com", "X-Forwarded-Proto": "javascript"}, "https://deploy.example.com"),
        (
            {"Host": "deploy.example.com", "X-Forwarded-Proto": "https://x/';touch pwned;'"},
            "https://deploy.example.com",
        ),
        ({"Host": "deploy.example.com", "X-Forwarded-Proto": "``` $(touch pwned)"}, "https://deploy.example.com"),
        ({"Host": "deploy.example.com", "X-Forwarded-Proto": ""}, "https://deploy.example.com"),
    ],
)
def test_the_url_is_the_one_in_front_of_the_ingress(twice, headers, url):
    words = shlex.split(way_back(ask(twice, **headers)))
    assert words == ["curl", "--data", '{"pw": "$PASSWORD", "wait": true}', f"{url}/deployment/web/rollback"]


@pytest.mark.parametrize(
    "host", ["x';touch pwned;'", "$(touch pwned)", "`touch pwned`", "a b", 'a"b', "x/```", "x|y", "x\\", "x@y", "ä"]
)
def test_a_host_that_is_none_gets_into_no_command(twice, cluster, host):
    answer = ask(twice, Host=host)
    assert answer.status == 200
    assert way_back(answer) == f"kubectl rollout undo deployment/web --namespace {cluster.namespace}"


def test_who_has_a_token_goes_back_with_kubectl(services, cluster):
    issuer = Issuer()
    service = services(OIDC_AUDIENCE=AUDIENCE, OIDC_ISSUER=issuer.url, SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    manifest = deployment()
    manifest["metadata"]["annotations"] = {"auto-deployer/github-repository-id": REPOSITORY_ID}
    service.configure("web", manifest)
    token, kubectl = f"Bearer {issuer.token()}", f"kubectl rollout undo deployment/web --namespace {cluster.namespace}"
    service.deploy()
    assert way_back(ask(service, "POST", body={"wait": True}, Authorization=token)) == kubectl
    assert way_back(ask(service, Authorization=token)) == kubectl
    # With both, the password counts.
    both = ask(service, "POST", body={"pw": PASSWORD, "wait": True}, Authorization=token)
    assert way_back(both).startswith("curl ")
    issuer.close()


@pytest.mark.parametrize(
    "cause",
    [
        "fix | <b>bold</b> & `code` $(touch pwned) *a* _b_ ~c~ @octocat [d](https://e) ![f](g) \\ \"h\" 'i'",
        "a\n\n### forged\n\n```\n</pre><script>alert(1)</script>\n| x | y |",
        "::error::forged",
    ],
)
def test_a_cause_is_text_and_nothing_else(twice, cause):
    answer = ask(twice, "POST", body={"cause": cause, "wait": True})
    [row] = [line for line in answer.text.splitlines() if line.startswith("| cause |")]
    written = row.removeprefix("| cause | ").removesuffix(" |")
    assert html.unescape(written) == " ".join(cause.split())
    assert not set(written) & set('<>"|*_`~@$[]\\')
    assert [line for line in answer.text.splitlines() if line.startswith("#")] == ["### web: complete"]
    assert way_back(answer)
