"""Deploying with a token of GitHub instead of a password, and every way to forge one."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from access import oidc
from errors import InvalidToken, Unreachable
from tests.access.issuer import AUDIENCE, REPOSITORY_ID, new_key
from tests.conftest import InProcess, deployment
from tests.service import ROOT, wait_for

PLAIN = "wrong or missing password\n"
INVALID = "this token isn't valid here\n"
ID, REF, ENVIRONMENT = (f"auto-deployer/github-{what}" for what in ("repository-id", "ref", "environment"))
MASTER = {ID: REPOSITORY_ID, REF: "refs/heads/master"}


@pytest.fixture
def client(issuer, admin, cluster, tmp_path):
    """Serve callers with a token of this issuer; there is no password."""
    environ = {
        "KUBECONFIG": str(admin.kubeconfig),
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_ISSUER": issuer.url,
        "SETTLE_SECONDS": "0",
    }
    client = InProcess(tmp_path, **environ)
    client.namespace = cluster.namespace
    allow(client, MASTER)
    return client


def allow(client, annotations, name="web"):
    """Configure a deployment with these annotations, which name the workflows that may deploy it."""
    manifest = deployment(name)
    manifest["metadata"]["annotations"] = annotations
    client.configure(name, manifest)


def signal(client, token, path="/deployment/web", **fields):
    token = token if isinstance(token, str) else token.decode("latin-1")
    return client.post(path, fields, Authorization=f"Bearer {token}")


def part(content):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


# Who may


def test_a_token_deploys(client, issuer, cluster):
    answer = signal(client, issuer.token())
    assert answer.status == 200, answer.text
    assert cluster.get("web")


@pytest.mark.parametrize("path", ["/deployment", "/deployment/web"])
def test_a_token_opens_every_path_that_a_password_opens(client, issuer, path):
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    assert client.post(path, {}, **headers).status == 200
    assert client.get(f"{path}?wait=20", **headers).status == 200
    assert client.get("/check", **headers).status == 200
    assert client.post(f"{path}/rollback", {}, **headers).status == 409


def test_the_service_is_ready_without_a_password(client):
    assert client.get("/readyz").status == 200


def test_passwords_and_tokens_work_side_by_side(client, issuer):
    client.password("default", "correct-horse-battery-staple")
    assert client.signal("web").status == 200
    assert issuer.requests == []
    assert signal(client, issuer.token()).status == 200
    assert signal(client, issuer.token(), pw="wrong-horse-battery-staple").status == 200


@pytest.mark.parametrize(
    ("annotations", "claims"),
    [
        ({ID: f"1, {REPOSITORY_ID} ,2"}, {}),
        ({ID: REPOSITORY_ID}, {"ref": "refs/heads/dev"}),
        ({ID: REPOSITORY_ID, REF: "refs/heads/master,refs/heads/dev"}, {"ref": "refs/heads/dev"}),
        ({ID: REPOSITORY_ID, ENVIRONMENT: "production"}, {"environment": "production"}),
        (MASTER | {ENVIRONMENT: "staging, production"}, {"environment": "production"}),
        (MASTER, {"environment": "production", "event_name": "workflow_dispatch"}),
        # GitHub has changed the form of `sub` before and may do so again.
        (MASTER, {"sub": "repo:octocat@583231/web@1296269:ref:refs/heads/master"}),
        (MASTER, {"repository": "octocat/renamed"}),
        (MASTER, {"aud": [AUDIENCE]}),
    ],
)
def test_the_annotations_say_which_workflows_may_deploy(client, issuer, annotations, claims):
    allow(client, annotations)
    assert signal(client, issuer.token(**claims), dry_run=True).status == 200


@pytest.mark.parametrize(
    ("annotations", "claims", "sentence"),
    [
        (
            MASTER,
            {"ref": "refs/heads/dev"},
            "this token is from refs/heads/dev; web may be deployed from refs/heads/master",
        ),
        (
            MASTER | {REF: "refs/heads/master, refs/tags/v1"},
            {"ref": "refs/heads/mast"},
            "this token is from refs/heads/mast; web may be deployed from refs/heads/master or refs/tags/v1",
        ),
        (
            MASTER | {ENVIRONMENT: "production"},
            {},
            "this token is from no environment; web may be deployed from environment production",
        ),
        (
            MASTER | {ENVIRONMENT: "production"},
            {"environment": "Production"},
            "this token is from environment Production; web may be deployed from environment production",
        ),
        (
            MASTER | {REF: ""},
            {},
            f"this token is from refs/heads/master; web may be deployed from nowhere: its annotation {REF} is empty",
        ),
        *(
            (
                annotations,
                claims,
                "this token is from a pull request, which may not deploy web; deploy on a push",
            )
            for annotations, claims in (
                (MASTER, {"event_name": "pull_request"}),
                (MASTER, {"event_name": "pull_request_target"}),
                ({ID: REPOSITORY_ID, REF: "refs/pull/1/merge"}, {"ref": "refs/pull/1/merge", "event_name": None}),
            )
        ),
    ],
)
def test_the_right_repository_learns_why_it_may_not_deploy(client, issuer, cluster, annotations, claims, sentence):
    allow(client, annotations)
    for path in ("/deployment/web", "/deployment"):
        answer = signal(client, issuer.token(**claims), path)
        assert (answer.status, answer.text) == (403, sentence + "\n")
    answer = client.get("/check", Authorization=f"Bearer {issuer.token(**claims)}", Accept="application/json")
    assert answer.json() == {"error": sentence, "reason": "WorkflowNotAllowed"}
    assert cluster.get("web") is None


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {REF: "refs/heads/master"},
        {ID: ""},
        {ID: "1296268, 12962690"},
        {ID: "octocat/web"},
        {ID: f"{REPOSITORY_ID} 2"},
        {ID: "None"},
    ],
)
@pytest.mark.parametrize("path", ["/deployment/web", "/deployment", "/deployment/other", "/deployment/../web"])
def test_any_other_repository_learns_nothing(client, issuer, cluster, annotations, path):
    allow(client, annotations)
    answer = signal(client, issuer.token(ref="refs/heads/dev"), path)
    assert (answer.status, answer.text) == (403, PLAIN)
    assert client.get("/check", Authorization=f"Bearer {issuer.token()}").text == PLAIN
    assert cluster.get("web") is None


def test_a_token_does_not_open_an_unreadable_manifest(client, issuer, caplog):
    client.configure("web", "kind: [")
    assert signal(client, issuer.token()).text == PLAIN
    assert "octocat/web, repository id 1296269, doesn't open web: web.yaml: " in caplog.text


def test_a_token_learns_nothing_about_an_unreadable_directory(client, issuer):
    client.deployments_dir.rename(client.deployments_dir.with_name("elsewhere"))
    for path in ("/deployment", "/deployment/web"):
        assert signal(client, issuer.token(), path).text == PLAIN
    assert client.get("/check", Authorization=f"Bearer {issuer.token()}").text == PLAIN


def test_a_misspelt_annotation_opens_nothing(client, issuer):
    allow(client, {ID: REPOSITORY_ID, "auto-deployer/github-branch": "master"})
    assert signal(client, issuer.token()).text == PLAIN
    client.password("default", "correct-horse-battery-staple")
    answer = client.signal("web")
    assert answer.status == 422
    assert answer.text == (
        f"web.yaml: metadata.annotations: unknown auto-deployer/github-branch; there are {ID}, {REF}, {ENVIRONMENT}\n"
    )


def test_the_deployment_of_the_right_repository_says_why_it_may_not_be_deployed(client, issuer):
    allow(client, {ID: "77"}, "api")
    for answer in (
        signal(client, issuer.token(ref="refs/heads/dev"), "/deployment"),
        client.get("/check", Authorization=f"Bearer {issuer.token(ref='refs/heads/dev')}"),
    ):
        assert answer.text == "this token is from refs/heads/dev; web may be deployed from refs/heads/master\n"


def test_a_token_opens_one_of_several_deployments(client, issuer):
    allow(client, {ID: "77"}, "api")
    assert signal(client, issuer.token(), "/deployment/api").text == PLAIN
    assert signal(client, issuer.token(), "/deployment/web", dry_run=True).status == 200
    answer = signal(client, issuer.token(), "/deployment")
    assert answer.status == 400
    assert answer.text.endswith("name one in the URL: /deployment/web\n")
    checked = client.get("/check", Authorization=f"Bearer {issuer.token()}")
    assert checked.text.startswith("ok: web: a deploy would work\n")
    assert {line.split(": ")[1] for line in checked.text.splitlines()} == {"web"}
    assert client.get("/check/api", Authorization=f"Bearer {issuer.token()}").text == PLAIN


# Who it is


RUN = {"actor": "octocat", "sha": "1a2b3c4d5e6f7a8b9c0d", "run_id": "15"}


def test_the_answer_says_who_runs_the_workflow_and_where(client, issuer, cluster):
    answer = signal(client, issuer.token(**RUN), link="https://example.com/of-the-sender")
    assert answer.status == 200
    shown = client.get("/deployment/web", Authorization=f"Bearer {issuer.token()}", Accept="application/json").json()
    host = issuer.url.partition("//")[2]
    # The link is the run that the token proves, whatever the sender writes.
    assert (shown["by"], shown["link"]) == (
        "octocat, octocat/web@1a2b3c4",
        f"https://{host}/octocat/web/actions/runs/15",
    )


@pytest.mark.parametrize(
    ("issuer_url", "host"),
    [
        ("https://token.actions.githubusercontent.com", "github.com"),
        ("https://token.actions.githubusercontent.com/acme", "github.com"),
        # https://docs.github.com/en/enterprise-server@latest/actions/reference/security/oidc
        ("https://github.acme.example/_services/token", "github.acme.example"),
        # https://docs.github.com/en/enterprise-cloud@latest/admin/data-residency
        ("https://token.actions.acme.ghe.com", "acme.ghe.com"),
    ],
)
def test_the_run_is_where_the_issuer_is(issuer, issuer_url, host):
    workflow = oidc.Workflow.model_validate(issuer.payload(iss=issuer_url, **RUN))
    assert workflow.link == f"https://{host}/octocat/web/actions/runs/15"


@pytest.mark.parametrize(
    ("claims", "by", "has_link"),
    [
        ({"actor": None}, "octocat/web@1a2b3c4", True),
        ({"sha": None}, "octocat, octocat/web", True),
        ({"run_id": None}, "octocat, octocat/web@1a2b3c4", False),
        ({"run_id": "../../evil"}, "octocat, octocat/web@1a2b3c4", False),
    ],
)
def test_a_token_that_says_less_still_says_who(issuer, claims, by, has_link):
    workflow = oidc.Workflow.model_validate(issuer.payload(**RUN | claims))
    assert (workflow.by, workflow.link is not None) == (by, has_link)


# Forgeries


def unsigned(issuer, alg="none"):
    return f"{part({'alg': alg, 'kid': 'first', 'typ': 'JWT'})}.{part(issuer.payload())}."


def signed_with_the_public_key(issuer, alg="HS256"):
    head = f"{part({'alg': alg, 'kid': 'first', 'typ': 'JWT'})}.{part(issuer.payload())}"
    return f"{head}.{part(hmac.digest(issuer.public_pem(), head.encode(), hashlib.sha256))}"


def with_header(issuer, **header):
    key = header.pop("key", None) or issuer.keys["first"]
    return jwt.encode(issuer.payload(), key, algorithm="RS256", headers=header)


FORGERIES = {
    "none": unsigned,
    "NONE": lambda issuer: unsigned(issuer, "NONE"),
    "the public key as a secret": signed_with_the_public_key,
    "the public key as a secret, under RS256": lambda issuer: signed_with_the_public_key(issuer, "RS256"),
    "another algorithm of the same key": lambda issuer: jwt.encode(
        issuer.payload(), issuer.keys["first"], algorithm="RS512", headers={"kid": "first"}
    ),
    "another key": lambda issuer: with_header(issuer, kid="first", key=new_key()),
    "a key of its own in its header": lambda issuer: with_header(
        issuer, kid="first", key=new_key(), jwk={"kty": "oct", "k": part(b"x" * 32)}
    ),
    "another audience": lambda issuer: issuer.token(aud="https://elsewhere.example.com"),
    "our audience with a slash": lambda issuer: issuer.token(aud=f"{AUDIENCE}/"),
    "no audience": lambda issuer: issuer.token(aud=None),
    "another issuer": lambda issuer: issuer.token(iss="https://token.actions.githubusercontent.com"),
    "our issuer with a slash": lambda issuer: issuer.token(iss=f"{issuer.url}/"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 1),
    "no expiry": lambda issuer: issuer.token(exp=None),
    "an expiry that is no number": lambda issuer: issuer.token(exp="tomorrow"),
    "not yet valid": lambda issuer: issuer.token(nbf=int(time.time()) + 60),
    "no repository": lambda issuer: issuer.token(repository_id=None),
    "a list of repositories": lambda issuer: issuer.token(repository_id=[REPOSITORY_ID]),
    "no kid": lambda issuer: issuer.token(kid=None),
    "an unknown kid": lambda issuer: with_header(issuer, kid="unknown"),
    "a kid that is a URL": lambda issuer: with_header(issuer, kid=f"{issuer.url}/forged"),
    "a kid that is a path": lambda issuer: with_header(issuer, kid="../../../dev/null"),
    "URLs of keys": lambda issuer: with_header(
        issuer, kid="other", jku=f"{issuer.url}/forged", x5u=f"{issuer.url}/forged"
    ),
    "a critical extension": lambda issuer: with_header(issuer, kid="first", crit=["b64"], b64=False),
    "the claims of another": lambda issuer: ".".join(
        [*issuer.token(repository_id="1").split(".")[:1], part(issuer.payload()), issuer.token().split(".")[2]]
    ),
    "a cut one": lambda issuer: issuer.token()[:-10],
    "two dots": lambda issuer: "..",
    "no JSON": lambda issuer: f"{part(b'{')}.{part(b'}')}.x",
    "too deep": lambda issuer: f"{part(b'[' * 11_000)}.{part({})}.x",
    "no object": lambda issuer: f"{part([])}.{part([])}.x",
    "not UTF-8": lambda issuer: "\xff.\xfe.\xfd",
    "1 MB": lambda issuer: issuer.token(padding="x" * 750_000),
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES.keys())
def test_no_forgery_opens_anything(client, issuer, cluster, caplog, forged):
    assert signal(client, issuer.token(), dry_run=True).status == 200
    token = forged(issuer)
    caplog.clear()
    for path in ("/deployment/web", "/deployment", "/deployment/nothing"):
        answer = signal(client, token, path)
        assert (answer.status, answer.text) == (403, INVALID)
    answer = client.get("/deployment/web", Authorization=f"Bearer {token}", Accept="application/json")
    assert answer.json() == {"error": INVALID.strip(), "reason": "InvalidToken"}
    # Once for each of the four requests, with the check that failed.
    assert len(re.findall(r"a token is refused: (?:\w+Error|it has more than 16384 bytes)$", caplog.text, re.M)) == 4
    assert cluster.get("web") is None
    assert "/forged" not in issuer.requests
    assert token not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_token_in_the_body_opens_nothing(client, issuer):
    assert client.post("/deployment/web", {"pw": issuer.token()}).text == PLAIN


@pytest.fixture
def client_without_tokens(issuer, admin, cluster, tmp_path):
    client = InProcess(tmp_path, KUBECONFIG=str(admin.kubeconfig), OIDC_ISSUER=issuer.url)
    client.reset(cluster.namespace)
    allow(client, MASTER)
    return client


def test_without_an_audience_no_token_opens_anything_and_the_log_says_so(client_without_tokens, issuer, caplog):
    client = client_without_tokens
    token, log = issuer.token(), "a token was sent, but without OIDC_AUDIENCE auto-deployer accepts none"
    for ask in (
        lambda: signal(client, token),
        lambda: client.get("/check", Authorization=f"Bearer {token}"),
        lambda: client.get("/deployment/web", Authorization=f"Bearer {token}"),
    ):
        caplog.clear()
        assert ask().text == PLAIN
        assert caplog.messages.count(log) == 1
        assert token not in caplog.text
    caplog.clear()
    assert client.post(body={"pw": "wrong.or.missing"}).text == PLAIN
    assert client.signal().status == 200
    assert log not in caplog.text
    assert issuer.requests == []


def test_without_an_audience_no_cryptography_is_loaded(tmp_path):
    script = "import sys, app; app.create_app(); print({'access.oidc', 'jwt', 'cryptography'} & set(sys.modules))"
    environ = {"DEPLOYMENTS_DIR": str(tmp_path), "PASSWORDS_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert run.stdout == "set()\n", run.stderr


def test_a_token_of_a_megabyte_under_uwsgi(services, issuer, cluster):
    service = services("oidc", OIDC_AUDIENCE=AUDIENCE, OIDC_ISSUER=issuer.url)
    service.reset(cluster.namespace)
    allow(service, MASTER)
    head = f"GET /deployment/web HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {FORGERIES['1 MB'](issuer)}\r\n\r\n"
    assert b"200 OK" not in service.raw(head.encode())
    assert signal(service, issuer.token()).status == 200


# The keys


def test_the_keys_are_fetched_once(client, issuer):
    for _ in range(3):
        assert signal(client, issuer.token(), dry_run=True).status == 200
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]


def test_unknown_key_ids_cause_at_most_one_fetch_a_minute(client, issuer):
    signal(client, issuer.token(), dry_run=True)
    for kid in "abcdef":
        assert signal(client, with_header(issuer, kid=kid)).text == INVALID
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]


def test_a_new_key_is_found(issuer, monkeypatch):
    monkeypatch.setattr(oidc, "MIN_SECONDS_BETWEEN_FETCHES", 0)
    tokens = oidc.Tokens(issuer.url, AUDIENCE)
    tokens.workflow(issuer.token().encode())
    issuer.keys["second"] = new_key()
    issuer.published = ["second"]
    assert tokens.workflow(issuer.token("second").encode()).repository_id == REPOSITORY_ID
    # The issuer has withdrawn the old key.
    with pytest.raises(InvalidToken):
        tokens.workflow(issuer.token("first").encode())


def test_no_token_opens_anything_while_the_issuer_is_away(client, issuer, cluster, monkeypatch):
    monkeypatch.setattr(oidc, "MIN_SECONDS_AFTER_FAILURE", 0)
    issuer.close()
    answer = signal(client, issuer.token())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.text.startswith(f"the keys of {issuer.url} can't be fetched")
    assert cluster.get("web") is None
    issuer.open()
    assert signal(client, issuer.token()).status == 200


def test_invented_key_ids_delay_no_valid_token_while_the_issuer_is_away(issuer, monkeypatch):
    tokens = oidc.Tokens(issuer.url, AUDIENCE)
    tokens.workflow(issuer.token().encode())
    monkeypatch.setattr(oidc, "MIN_SECONDS_BETWEEN_FETCHES", 0)
    issuer.open_from.clear()
    with ThreadPoolExecutor(1) as pool:
        forged = pool.submit(tokens.workflow, with_header(issuer, kid="made-up").encode())
        wait_for(lambda: len(issuer.requests) == 3)
        # The issuer doesn't answer, but a token with a known key doesn't need it.
        assert tokens.workflow(issuer.token().encode()).repository_id == REPOSITORY_ID
        assert not forged.done()
        issuer.answer = b""
        issuer.open_from.set()
        with pytest.raises(Unreachable):
            forged.result()


def test_invented_key_ids_cause_at_most_one_fetch_a_minute_while_the_issuer_is_away(issuer, monkeypatch):
    tokens = oidc.Tokens(issuer.url, AUDIENCE)
    tokens.workflow(issuer.token().encode())
    issuer.answer = b""
    monkeypatch.setattr(tokens, "_tried_at", tokens._tried_at - oidc.MIN_SECONDS_BETWEEN_FETCHES)
    for kid in "abc":
        with pytest.raises(Unreachable):
            tokens.workflow(with_header(issuer, kid=kid).encode())
    assert len(issuer.requests) == 3


def test_known_keys_need_no_issuer(client, issuer):
    assert signal(client, issuer.token(), dry_run=True).status == 200
    issuer.close()
    assert signal(client, issuer.token(), dry_run=True).status == 200
    issuer.open()


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b"{}", b'{"jwks_uri": 1}', b'{"jwks_uri": "file:///etc/passwd"}', b'{"keys": 1}']
)
def test_no_token_opens_anything_while_the_issuer_answers_nonsense(client, issuer, cluster, monkeypatch, answer):
    monkeypatch.setattr(oidc, "MIN_SECONDS_AFTER_FAILURE", 0)
    issuer.answer = answer
    assert signal(client, issuer.token()).status == 503
    issuer.answer = None
    assert signal(client, issuer.token()).status == 200


def test_callers_that_wait_for_a_failing_issuer_share_one_fetch(issuer):
    tokens, token, callers = oidc.Tokens(issuer.url, AUDIENCE), issuer.token().encode(), oidc.MAX_FETCHING_REQUESTS
    issuer.answer = b""
    issuer.open_from.clear()
    lock, arrived = tokens._lock, []

    class Counted:
        def __enter__(self):
            arrived.append(1)
            lock.acquire()

        def __exit__(self, *error):
            lock.release()

    tokens._lock = Counted()

    def refused(_):
        with pytest.raises(Unreachable):
            tokens.workflow(token)

    with ThreadPoolExecutor(callers) as pool:
        waiting = pool.map(refused, range(callers))
        wait_for(lambda: len(arrived) == callers)
        issuer.open_from.set()
        list(waiting)
    assert issuer.requests == ["/.well-known/openid-configuration"]


def test_a_fetch_that_failed_is_not_repeated_for_10_seconds(issuer, monkeypatch):
    tokens = oidc.Tokens(issuer.url, AUDIENCE)
    issuer.answer = b""
    for _ in range(3):
        with pytest.raises(Unreachable):
            tokens.workflow(issuer.token().encode())
    assert issuer.requests == ["/.well-known/openid-configuration"]
    issuer.answer = None
    monkeypatch.setattr(tokens, "_tried_at", tokens._tried_at - 10)
    assert tokens.workflow(issuer.token().encode()).repository_id == REPOSITORY_ID


def test_an_issuer_that_never_answers_holds_few_requests(services, issuer, cluster):
    service = services("oidc-hangs", OIDC_AUDIENCE=AUDIENCE, OIDC_ISSUER=issuer.url)
    service.reset(cluster.namespace)
    allow(service, MASTER)
    issuer.open_from.clear()
    try:
        with ThreadPoolExecutor(80) as pool:
            forged = with_header(issuer, kid="made-up")
            asked = [pool.submit(signal, service, forged) for _ in range(80)]
            wait_for(lambda: issuer.requests)
            began = time.monotonic()
            assert service.get("/healthz").status == service.get("/readyz").status == 200
            assert time.monotonic() - began < 1
            wait_for(lambda: sum(each.done() for each in asked) == 80 - oidc.MAX_FETCHING_REQUESTS, 3)
            answers = [each.result() for each in asked]
        assert {(each.status, each.headers["Retry-After"]) for each in answers} == {(503, "5")}
        assert issuer.requests == ["/.well-known/openid-configuration"]
    finally:
        issuer.open_from.set()
