"""Docker Hub's webhooks: each push makes one rollout of what the manifest says."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployment_spec import runs_image
from errors import BadRequest, NotDockerHub
from manifest.files import Manifest
from tests.conftest import ConfiguredService, InProcess, deployment
from tests.service import PASSWORD, wait_for
from web import webhooks
from web.webhooks import Push

TOKEN = "9f86d081884c7d659a2feaa0c55ad015"
CALLBACK = "https://registry.hub.docker.com/u/acme/web/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/"
CHANGE_CAUSE = "kubernetes.io/change-cause"


def payload(repo_name="acme/web", tag="latest", pushed_at=1763800000.5, **fields):
    """Return what Docker Hub sends. https://docs.docker.com/docker-hub/repos/manage/webhooks/"""
    namespace, _, name = repo_name.rpartition("/")
    return {
        "callback_url": CALLBACK,
        "push_data": {"pushed_at": pushed_at, "pusher": "octocat", "tag": tag, "images": []},
        "repository": {
            "comment_count": 0,
            "date_created": 1417566665,
            "description": "",
            "is_private": True,
            "name": name,
            "namespace": namespace,
            "repo_name": repo_name,
            "repo_url": f"https://registry.hub.docker.com/v2/repositories/{repo_name}",
            "star_count": 0,
            "status": "Active",
        },
    } | fields


@pytest.fixture
def client(admin, cluster, tmp_path):
    client = InProcess(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    client.reset(cluster.namespace)
    client.password("dockerhub", "an-older-token-of-it", TOKEN)
    client.configure("web", deployment(image="acme/web:latest"))
    return client


def push(client, body=None, token=TOKEN, **headers):
    return client.post(f"/dockerhub/{token}", payload() if body is None else body, **headers)


def cause(live):
    return live["metadata"]["annotations"][CHANGE_CAUSE]


# One push


def test_a_push_deploys_what_the_manifest_says(client, cluster):
    answer = push(client)
    live = cluster.get("web")
    rollout_id = live["spec"]["template"]["metadata"]["annotations"]["auto-deployer/restartedAt"]
    assert (answer.status, answer.text) == (200, f"ok: web: deploying, id {rollout_id}\n")
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:latest"
    assert cause(live) == "acme/web:latest was pushed to Docker Hub by octocat"


def test_the_answer_in_json(client):
    answer = push(client, Accept="application/json").json()["deployments"]
    assert [(each["deployment"], each["outcome"]) for each in answer] == [("web", "deploying")]
    again = push(client, Accept="application/json").json()["deployments"]
    assert again == [
        {
            "deployment": "web",
            "outcome": "already",
            "id": None,
            "message": "already deploying, for another webhook of this push",
        }
    ]


def test_a_rollout_of_a_push_gets_its_verdict(client):
    push(client)
    assert client.show(wait=20).json()["phase"] == "complete"


@pytest.mark.parametrize(
    "pushed",
    [
        payload(tag="v1"),
        payload("acme/other"),
        payload("other/web"),
        payload("web"),
        payload(tag="Latest"),
    ],
    ids=str,
)
def test_a_push_of_another_repository_or_tag_deploys_nothing(client, cluster, pushed):
    answer = push(client, pushed)
    image = f"{pushed['repository']['repo_name']}:{pushed['push_data']['tag']}"
    assert (answer.status, answer.text) == (200, f"ok: nothing to do: no deployment runs {image}\n")
    assert cluster.get("web") is None


@pytest.mark.parametrize(
    ("written", "pushed", "runs"),
    [
        ("acme/web", payload(), True),
        ("docker.io/acme/web:latest", payload(), True),
        ("index.docker.io/acme/web:v1", payload(tag="v1"), True),
        ("nginx:1", payload("nginx", "1"), True),
        ("nginx:1", payload("library/nginx", "1"), True),
        ("ghcr.io/acme/web:latest", payload(), False),
        ("acme/web:latest@sha256:" + "1" * 64, payload(), False),
        ("acme/web@sha256:" + "1" * 64, payload(), False),
    ],
)
def test_the_image_is_compared_as_docker_reads_it(written, pushed, runs):
    manifest = Manifest("web.yaml", "default", "web", {}, deployment(image=written))
    assert runs_image(manifest, None, Push.from_fields(pushed).reference) is runs


def test_every_deployment_with_that_image_is_deployed(client, cluster):
    client.configure("api", deployment("api", image="acme/web:latest"))
    client.configure("other", deployment("other", image="acme/web:v1"))
    sidecar = deployment("sidecar", image="acme/other:1")
    sidecar["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "acme/web"})
    client.configure("sidecar", sidecar)
    lines = push(client).text.splitlines()
    assert [line.split(", id")[0] for line in lines] == [
        "ok: api: deploying",
        "ok: sidecar: deploying",
        "ok: web: deploying",
    ]
    assert cluster.get("other") is None


def test_without_a_spec_in_the_manifest_the_live_image_counts(client, cluster):
    client.configure("web", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    assert "nothing to do" in push(client).text
    cluster.create(deployment(image="acme/web:v2"))
    assert "nothing to do" in push(client).text
    assert push(client, payload(tag="v2")).text.startswith("ok: web: deploying")


def test_after_a_rollback_the_image_before_it_counts(client, cluster):
    client.configure("web", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    live = deployment(image="acme/web@sha256:" + "1" * 64)
    live["spec"]["template"]["metadata"]["annotations"] = {"auto-deployer/unpinned": '{"web": "acme/web:latest"}'}
    cluster.create(live)
    assert push(client).text.startswith("ok: web: deploying")
    assert cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:latest"


def test_an_unreadable_manifest_is_named_and_the_others_are_deployed(client, cluster):
    client.configure("broken", "kind: [")
    answer = push(client)
    assert answer.status == 422
    assert answer.text.startswith("broken: broken.yaml: ")
    assert "web: deploying" in answer.text
    assert cluster.get("web")


def test_when_one_deployment_is_refused_the_others_are_deployed(client, cluster, caplog):
    client.configure("api", deployment("api", image="acme/web:latest", paused=True))
    push(client)
    client.configure("worker", deployment("worker", image="acme/web:latest"))
    cluster.wait_for(lambda: cluster.get("api"))
    answer = push(client, payload() | {"push_data": {"tag": "latest", "pusher": "hubot"}})
    assert answer.status == 409
    assert "api: deployment api in " in answer.text
    [line] = [record for record in caplog.records if record.name == "web.webhooks"]
    assert (line.levelname, line.deployment) == ("WARNING", "api")
    assert line.getMessage().startswith("the push of acme/web:latest doesn't deploy api: deployment api in ")
    assert "worker: deploying" in answer.text
    assert cluster.get("worker")


# Who pushed


@pytest.mark.parametrize(("pusher", "by"), [("octocat", "octocat on Docker Hub"), (None, None)])
def test_a_push_says_who_pushed(client, cluster, pusher, by):
    client.configure("web", deployment(image="acme/web:latest"))
    assert push(client, payload() | {"push_data": {"tag": "latest", "pusher": pusher}}).status == 200
    shown = client.show().json()
    assert (shown["by"], shown["link"]) == (by, None)
    wait_for(lambda: client.show(wait=20).json()["history"])
    assert client.show().json()["history"][0]["by"] == by


# One rollout


def test_six_webhooks_of_a_push_make_one_rollout(client, cluster):
    for number in range(6):
        answer = push(client, payload(pushed_at=1763800000 + number))
        said = "ok: web: deploying, id " if number == 0 else "ok: web: already deploying"
        assert (answer.status, answer.text[: len(said)]) == (200, said)
    client.show(wait=20)
    assert len(cluster.replica_sets()) == 1


def test_six_webhooks_at_the_same_time_make_one_rollout(client, cluster):
    client.signal("web")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: push(client).text, range(6)))
    assert sorted("already" in answer for answer in answers) == [False] + [True] * 5
    client.show(wait=20)
    assert len(cluster.replica_sets()) == 2


@pytest.mark.simulated_only
def test_a_webhook_whose_patch_arrived_without_an_answer_follows_its_rollout(client, cluster):
    cluster.create(deployment(image="acme/web:latest"))

    def arrives():
        (sent,) = [each for each in cluster.requests if (each.verb, each.resource) == ("patch", "deployments")]
        cluster.patch(json.loads(sent.body))

    path = f"/namespaces/{cluster.namespace}/deployments"
    cluster.simulation.fail(1, "PATCH", path, call=arrives, drop=True)
    (answer,) = push(client, Accept="application/json").json()["deployments"]
    assert answer["outcome"] == "deploying"


def test_another_replica_knows_of_the_rollout(client, cluster, admin, tmp_path_factory):
    push(client)
    with ConfiguredService(tmp_path_factory.mktemp("other"), KUBECONFIG=str(admin.kubeconfig)) as other:
        other.reset(cluster.namespace)
        other.password("dockerhub", TOKEN)
        other.configure("web", deployment(image="acme/web:latest"))
        assert push(other).text.startswith("ok: web: already")


def test_a_late_webhook_does_not_undo_a_newer_deploy(client, cluster):
    push(client)
    client.show(wait=20)
    client.signal("web", image="acme/web:2")
    client.show(wait=20)
    assert push(client).text.startswith("ok: web: already")


def test_the_next_push_is_deployed(client, cluster, monkeypatch):
    push(client)
    monkeypatch.setattr(webhooks, "MAX_PUSH_SECONDS", 0)
    assert push(client).text.startswith("ok: web: deploying")


def test_another_tag_is_another_push(client, cluster):
    client.configure("api", deployment("api", image="acme/web:v1"))
    assert push(client).text.startswith("ok: web: deploying")
    assert push(client, payload(tag="v1")).text.startswith("ok: api: deploying")


# Who may


@pytest.mark.parametrize(
    "token", ["wrong-horse-battery-staple", PASSWORD, TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"{TOKEN}/", "x", "%ff"]
)
def test_only_a_token_of_the_file_opens(client, cluster, token):
    answer = push(client, token=token)
    assert (answer.status, answer.text) == (403, "wrong or missing password\n")
    assert push(client, "no JSON", token=token).status == 403
    assert cluster.get("web") is None


def test_each_line_is_a_token(client):
    assert push(client, token="an-older-token-of-it").status == 200


@pytest.mark.parametrize("weak", ["brief", "change-me-change-me"])
def test_a_weak_token_opens_nothing(client, weak):
    client.password("dockerhub", weak)
    assert push(client, token=weak).status == 403
    assert "dockerhub, line 1, opens nothing" in client.get("/readyz").text


def test_the_token_opens_nothing_else(client):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/deployment", "/deployment/web", "/deployment/dockerhub", "/deployment/web/rollback"):
        assert client.post(path, {"pw": TOKEN}).text == "wrong or missing password\n"
        assert client.post(path, {}, **bearer).status == 403
    assert client.get("/deployment/web", **bearer).status == 403
    assert client.get("/check", **bearer).status == 403
    assert client.get("/check/dockerhub", **bearer).status == 403


def test_without_a_file_nothing_opens(client):
    (client.passwords_dir / "dockerhub").unlink()
    assert push(client).status == 403


def test_a_token_with_a_slash_in_it_opens(client):
    client.password("dockerhub", "made/with+openssl/rand==")
    assert push(client, token="made/with+openssl/rand==").status == 200
    assert push(client, token="made%2Fwith%2Bopenssl%2Frand%3D%3D").status == 200


@pytest.mark.parametrize(
    "callback",
    [
        "https://evil.example.com/u/acme/web/hook/1/",
        "https://registry.hub.docker.com.evil.example.com/",
        "https://registry.hub.docker.com@evil.example.com/",
        "https://evil.example.com/?registry.hub.docker.com",
        "https://evilhub.docker.com/",
        "registry.hub.docker.com",
        "https://[",
        "x",
    ],
)
def test_a_callback_url_at_another_host_is_refused(client, cluster, callback):
    answer = push(client, payload(callback_url=callback))
    assert (answer.status, answer.text) == (
        403,
        "callback_url isn't at hub.docker.com: Docker Hub didn't send this\n",
    )
    assert cluster.get("web") is None


@pytest.mark.parametrize("callback", [CALLBACK, "https://hub.docker.com/x", "https://HUB.docker.com:443/", "", None])
def test_a_callback_url_at_docker_hub_or_none_is_accepted(callback):
    assert Push.from_fields(payload(callback_url=callback)).image == "acme/web:latest"
    without = payload()
    del without["callback_url"]
    assert Push.from_fields(without)


@pytest.mark.parametrize("callback", [["https://hub.docker.com"], [], {}, 0, False])
def test_a_callback_url_that_is_not_text_is_named(callback):
    with pytest.raises(BadRequest, match="callback_url must be text"):
        Push.from_fields(payload(callback_url=callback))


def test_a_callback_url_at_no_host_of_docker_hub_is_named():
    with pytest.raises(NotDockerHub):
        Push.from_fields(payload(callback_url="https://example.com"))


# Bad input


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "repository.repo_name must be text"),
        ({"repository": "acme/web", "push_data": {"tag": "1"}}, "repository.repo_name must be text"),
        ({"repository": {"repo_name": "acme/web"}}, "push_data.tag must be text"),
        ({"repository": {"repo_name": "acme/web"}, "push_data": {"tag": 1}}, "push_data.tag must be text"),
        (payload("Acme/Web"), "repository.repo_name and push_data.tag: "),
        (payload(tag="a b"), "repository.repo_name and push_data.tag: "),
        (payload(tag=""), "repository.repo_name and push_data.tag: "),
        ("no JSON", "the body is not JSON"),
    ],
)
def test_a_body_that_is_no_webhook_gets_a_clear_error(client, cluster, body, sentence):
    answer = push(client, body)
    assert answer.status == 400
    assert answer.text.startswith(sentence)


@pytest.mark.parametrize("pusher", [None, 7, "", "x" * 1000, "a\x00b\nc", "\ud800"])
def test_any_name_of_a_pusher_makes_a_valid_cause(client, cluster, pusher):
    answer = push(client, payload(push_data={"tag": "latest", "pusher": pusher}))
    assert answer.status == 200, answer.text
    assert cause(cluster.get("web")).startswith("acme/web:latest was pushed to Docker Hub")
    assert len(cause(cluster.get("web"))) <= 256


# The log


@pytest.mark.parametrize(
    "path",
    [
        "/dockerhub/{}",
        "/dockerhub/{}/",
        "/dockerhub//{}",
        "/DockerHub/{}",
        "/deployment/dockerhub/{}",
        "/docker-hub/{}",
        "/hooks/x/{}",
    ],
)
def test_no_line_of_a_request_shows_the_token(client, caplog, path):
    caplog.set_level("DEBUG")
    client.post(path.format(TOKEN), payload())
    client.get(path.format(TOKEN))
    lines = [vars(record) for record in caplog.records if record.name == "web.request_log"]
    assert len(lines) == 2
    assert TOKEN not in caplog.text + str(lines)
    assert "/…" in caplog.text


def test_no_line_of_uwsgi_shows_the_token(service, cluster):
    service.password("dockerhub", TOKEN)
    service.configure("web", deployment(image="acme/web:latest"))
    assert push(service).status == 200
    head = f"POST /dockerhub/{TOKEN} HTTP/1.1\r\nHost: x\r\n"
    for rest in (
        "Content-Length: 100\r\n\r\n{",
        "Content-Length: 70000\r\n\r\n{",
        "\r\n",
        "Content-Length: -1\r\n\r\n",
    ):
        with service.connect() as connection:
            connection.sendall((head + rest).encode())
    service.raw((head + "Content-Length: 100\r\n\r\n{").encode())
    wait_for(lambda: [line.get("path") for line in service.log].count("/dockerhub/…") >= 3)
    assert not [line for line in service.lines if TOKEN in line]
