"""What is asked over HTTP, and what comes back: on a simulated cluster, or with --kubeconfig on a real one."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import deployment
from tests.service import PASSWORD

DIGEST = "sha256:" + "0123456789abcdef" * 4
WRONG = "wrong or missing password"
IMAGE = {"pw": PASSWORD, "image": "acme/web:2"}


def template(live):
    return live["spec"]["template"]


def stamp(live):
    return template(live)["metadata"]["annotations"]["auto-deployer/restartedAt"]


def images(live, of="containers"):
    return [each["image"] for each in template(live)["spec"][of]]


def basic(password, user="user"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# A signal


def test_the_first_signal_creates_and_the_second_rolls_out_anew(service, cluster):
    first = service.signal()
    assert first.status == 200
    assert first.text.split()[0].rstrip(":") == "ok"
    assert first.headers.get_content_type() == "text/plain"
    live = cluster.get("web")
    assert stamp(live) in first.text
    assert images(live) == ["acme/web:1"]
    assert live["metadata"]["annotations"]["kubernetes.io/change-cause"] == "deploy acme/web:1"
    cluster.wait_for(lambda: len(cluster.replica_sets()) == 1)
    assert service.signal().status == 200
    assert stamp(cluster.get("web")) > stamp(live)
    cluster.wait_for(lambda: len(cluster.replica_sets()) == 2)


def test_a_rollout_in_json(service, cluster):
    answer = service.post(body={"pw": PASSWORD, "image": "acme/web:2"}, Accept="application/json")
    assert (answer.status, answer.headers.get_content_type()) == (200, "application/json")
    rollout = answer.json()
    expected = {
        "id": stamp(cluster.get("web")),
        "deployment": "web",
        "namespace": cluster.namespace,
        "revision": None,
        "image": "acme/web:2",
        "digest": None,
        "phase": "progressing",
        "causes": [],
        "rolled_back_to": None,
        "finished_at": None,
    }
    assert {key: rollout[key] for key in expected} == expected
    assert rollout["replicas"].keys() == {"desired", "updated", "ready", "available"}
    assert isinstance(rollout["message"], str)
    assert isinstance(rollout["changes"], list)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", rollout["started_at"])
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z", rollout["id"])


PW = json.dumps({"pw": PASSWORD})


@pytest.mark.parametrize(
    "body",
    [
        PW,
        f'{{"data": {PW}}}',
        json.dumps({"data": PW}),
        f'{{ "data": "{PW}" }}',
        '{"data":"' + PW.replace('"', '\\"') + '"}',
        json.dumps({"ref": "refs/heads/main", "pw": PASSWORD, "n": [1, {"x": None}]}),
    ],
    ids=["plain", "object", "text", "pasted", "pasted-escaped", "with-fields-of-others"],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_every_form_of_the_body_deploys(service, cluster, body, kind):
    assert service.post(body=body, Content_Type=kind).status == 200
    assert cluster.get("web")


def test_a_body_of_64_kib_deploys(service, cluster):
    assert service.post(body=PW.ljust(64 * 1024)).status == 200
    assert cluster.get("web")


@pytest.mark.parametrize(
    "authorization", [f"Bearer {PASSWORD}", f"bearer {PASSWORD}", basic(PASSWORD), basic(PASSWORD, "")]
)
def test_the_password_may_stand_in_the_header(service, authorization):
    assert service.post(body={}, Authorization=authorization).status == 200
    assert service.get("/check", Authorization=authorization).status == 200


def test_the_cause_is_in_the_history(service, cluster):
    assert service.signal(cause="Grüße 🚀: tests passed").status == 200
    assert cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"] == "Grüße 🚀: tests passed"
    assert service.signal().status == 200
    assert cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"] == "deploy acme/web:1"


@pytest.mark.parametrize(
    "image",
    ["acme/web:2", "docker.io/acme/web:2", f"acme/web@{DIGEST}", f"acme/web:2@{DIGEST}", "index.docker.io/acme/web:2"],
)
def test_the_image_of_a_signal_runs_until_the_next_one_without(service, cluster, image):
    assert service.signal(image=image).status == 200
    assert images(cluster.get("web")) == [image]
    assert service.signal().status == 200
    assert images(cluster.get("web")) == ["acme/web:1"]


def test_a_dry_run_changes_nothing(service, cluster):
    assert service.signal(dry_run=True).status == 200
    assert cluster.get("web") is None
    service.signal()
    before = cluster.get("web")["spec"]
    answer = service.signal(dry_run=True, image="acme/web:2")
    assert answer.status == 200
    assert "nothing was changed" in answer.text
    assert cluster.get("web")["spec"] == before


def test_one_of_several_deployments_is_named_in_the_url(service, cluster):
    service.configure("api", deployment("the-api", "acme/api:1"))
    assert service.signal("api").status == 200
    assert cluster.get("the-api")
    assert cluster.get("web") is None
    answer = service.signal()
    assert answer.status == 400
    assert "/deployment/api, /deployment/web" in answer.text


def test_an_edited_manifest_needs_no_restart(service, cluster):
    service.signal()
    service.configure("web", deployment(image="acme/web:7"))
    service.signal()
    assert images(cluster.get("web")) == ["acme/web:7"]


# What a deploy leaves of what was there


def test_the_spec_is_then_exactly_the_manifest_s(service, cluster):
    service.signal()
    by_hand = {
        "metadata": {"labels": {"by": "hand"}, "annotations": {"by": "hand"}},
        "spec": {
            "minReadySeconds": 7,
            "template": {
                "metadata": {"annotations": {"by": "hand"}},
                "spec": {
                    "containers": [
                        {"name": "web", "env": [{"name": "BY", "value": "hand"}]},
                        {"name": "sidecar", "image": "envoy:1"},
                    ]
                },
            },
        },
    }
    cluster.patch(by_hand)
    assert images(cluster.get("web")) in (["acme/web:1", "envoy:1"], ["envoy:1", "acme/web:1"])
    assert service.signal().status == 200
    live = cluster.get("web")
    assert images(live) == ["acme/web:1"]
    assert "env" not in template(live)["spec"]["containers"][0]
    assert "minReadySeconds" not in live["spec"]
    assert template(live)["metadata"]["annotations"].keys() == {"auto-deployer/restartedAt"}
    # What stands beside the spec is others' as well.
    assert live["metadata"]["labels"] == {"by": "hand"}
    assert live["metadata"]["annotations"]["by"] == "hand"


def test_a_field_that_was_taken_out_of_the_manifest_is_gone(service, cluster):
    service.configure("web", deployment(minReadySeconds=5, revisionHistoryLimit=2))
    service.signal()
    assert cluster.get("web")["spec"]["revisionHistoryLimit"] == 2
    service.configure("web", deployment())
    service.signal()
    assert "minReadySeconds" not in cluster.get("web")["spec"]
    assert cluster.get("web")["spec"]["revisionHistoryLimit"] == 10


def test_replicas_that_the_manifest_leaves_out_stay_as_somebody_scaled_them(service, cluster):
    manifest = deployment()
    del manifest["spec"]["replicas"]
    service.configure("web", manifest)
    service.signal()
    assert cluster.get("web")["spec"]["replicas"] == 1
    cluster.patch({"spec": {"replicas": 3}})
    service.signal()
    assert cluster.get("web")["spec"]["replicas"] == 3
    service.configure("web", deployment(replicas=2))
    service.signal()
    assert cluster.get("web")["spec"]["replicas"] == 2


def test_a_deployment_that_somebody_else_created_is_taken_over(service, cluster):
    cluster.create(deployment(image="acme/web:0", revisionHistoryLimit=3))
    assert service.signal().status == 200
    assert images(cluster.get("web")) == ["acme/web:1"]
    assert cluster.get("web")["spec"]["revisionHistoryLimit"] == 10


WITHOUT_SPEC = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}


def test_a_manifest_without_spec_is_only_stamped(service, cluster):
    cluster.create(deployment(image="acme/web:5", replicas=2, minReadySeconds=1))
    service.configure("web", WITHOUT_SPEC)
    before = cluster.get("web")
    answer = service.signal()
    assert answer.status == 200
    assert "acme/web:5" in answer.text
    live = cluster.get("web")
    assert stamp(live) in answer.text
    del template(live)["metadata"]["annotations"]
    assert live["spec"] == before["spec"]
    assert service.signal(image="acme/web:6").status == 200
    assert images(cluster.get("web")) == ["acme/web:6"]
    assert cluster.get("web")["spec"]["minReadySeconds"] == 1
    assert service.signal(image="acme/api:6").status == 403


def test_a_manifest_without_spec_creates_nothing(service, cluster):
    service.configure("web", WITHOUT_SPEC)
    answer = service.post(body={"pw": PASSWORD}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (404, "NotFound")
    assert "has no spec to create it from" in answer.json()["error"]


def test_a_paused_deployment_is_left_alone(service, cluster):
    service.signal()
    cluster.patch({"spec": {"paused": True}})
    before = cluster.get("web")["spec"]
    answer = service.post(body=IMAGE, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (409, "Paused")
    assert f"kubectl rollout resume deployment/web -n {cluster.namespace}" in answer.json()["error"]
    assert cluster.get("web")["spec"] == before
    cluster.patch({"spec": {"paused": False}})
    assert service.signal().status == 200


def test_many_signals_at_once_leave_one_consistent_deployment(service, cluster):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: service.signal(image=f"acme/web:{n}"), range(20)))
    assert {answer.status for answer in answers} == {200}
    live = cluster.get("web")
    (mine,) = [answer for answer in answers if stamp(live) in answer.text]
    assert images(live)[0] in mine.text


# Who may


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, WRONG),
        ({"pw": ""}, WRONG),
        ({"pw": "wrong"}, WRONG),
        ({"pw": PASSWORD + "\n"}, WRONG),
        ({"pw": " " + PASSWORD}, WRONG),
        ({"pw": PASSWORD[:-1]}, WRONG),
        ({"pw": PASSWORD.upper()}, WRONG),
        ({"pw": PASSWORD + "\x00"}, WRONG),
        ({"pw": "pässwörter-überall"}, WRONG),
        ({"pw": "\ud800\udc00\ud800"}, WRONG),
        ({"pw": "x" * 60_000}, WRONG),
        ({"PW": PASSWORD}, WRONG),
        ({"password": PASSWORD}, WRONG),
        ({"pw": "wrong", "image": 7, "cause": [], "dry_run": "x"}, WRONG),
        ({"pw": "wrong", "image": "acme/api:1"}, WRONG),
        ({"pw": "default"}, WRONG),
    ],
)
@pytest.mark.parametrize("path", ["/deployment", "/deployment/web", "/deployment/nothing", "/deployment/a/b"])
def test_without_a_right_password_nothing_else_is_said(service, cluster, fields, words, path):
    service.configure("api", "nonsense: [")
    answer = service.post(path, fields, Accept="application/json")
    assert (answer.status, answer.json()) == (403, {"error": words, "reason": "WrongPassword"})
    assert cluster.get("web") is None


@pytest.mark.parametrize("pw", [None, 1, 1.5, True, [PASSWORD], {"pw": PASSWORD}])
def test_a_password_that_is_no_text(service, cluster, pw):
    answer = service.post(body={"pw": pw}, Accept="application/json")
    assert (answer.status, answer.json()) == (400, {"error": "pw must be text", "reason": "BadRequest"})
    assert cluster.get("web") is None


@pytest.mark.parametrize("path", ["/check", "/check/web", "/check/nothing", "/check/a/b"])
@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Digest {PASSWORD}", PASSWORD, "Basic !!", basic("wrong"), basic("")],
)
def test_a_check_without_a_right_password(service, path, authorization):
    answer = service.get(path, **({"Authorization": authorization} if authorization else {}))
    assert (answer.status, answer.text) == (403, WRONG + "\n")


def test_a_password_of_one_deployment_opens_only_that_one(service, cluster):
    service.configure("api", deployment("api", "acme/api:1"))
    service.password("api", "only-for-the-api-01")
    api = {"pw": "only-for-the-api-01"}
    assert service.post("/deployment/web", api).status == 403
    assert service.post("/deployment/nothing", api).status == 403
    several = service.post("/deployment", api)
    assert (several.status, "/deployment/web" in several.text) == (400, False)
    assert service.post("/deployment/api", api).status == 200
    assert cluster.get("web") is None
    checked = service.get("/check", Authorization="Bearer only-for-the-api-01")
    assert (checked.status, "web" in checked.text) == (200, False)
    assert service.get("/check/web", Authorization="Bearer only-for-the-api-01").status == 403
    assert service.post("/deployment/api", {"pw": PASSWORD}).status == 200


def test_passwords_rotate_without_a_restart(service):
    service.password("default", PASSWORD, "the-next-password-1")
    assert service.post(body={"pw": "the-next-password-1"}).status == 200
    assert service.signal().status == 200
    service.password("default", "the-next-password-1")
    assert service.post(body={"pw": "the-next-password-1"}).status == 200
    assert service.signal().status == 403


def test_crlf_and_blank_lines_in_a_password_file_are_harmless(service):
    (service.passwords_dir / "default").write_bytes(b"\r\n" + PASSWORD.encode() + b"\r\n\r\n")
    assert service.signal().status == 200
    assert service.post(body={"pw": ""}).status == 403
    assert service.post(body={"pw": "\r"}).status == 403


def test_without_any_password_everything_is_closed(service):
    (service.passwords_dir / "default").unlink()
    assert service.signal().status == 403
    assert service.post(body={}).status == 403


# Bad input


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"  \n", 400, "empty"),
        (b'{"pw": ', 400, "not JSON"),
        (b"pw=x", 400, "not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"7", 400, "must be a JSON object"),
        (b"null", 400, "must be a JSON object"),
        (b'"text"', 400, "must be a JSON object"),
        (b"[" * 1_000 + b"]" * 1_000, 400, "the body"),
        (b"[" * 50_000, 400, "nested too deep"),
        (b'{"a":' * 10_000, 400, "nested too deep"),
        (b'{"data": 7}', 400, "data must be an object"),
        (b'{"data": "{"}', 400, "data is not JSON"),
        (b'{"data": {"data": {}}}', 400, "one envelope is enough"),
        (b'{ "data": "{ "data": "{}" }" }', 400, "one envelope is enough"),
        (b'{"pw": "a", "pw": "b"}', 400, "twice"),
        (b'{"pw": NaN}', 400, "NaN"),
        (b'{"pw": "\x00"}', 400, "not JSON"),
        (b"\x00" * 100, 400, "not JSON"),
        (b'{"pw": "\xe4"}', 400, "not UTF-8"),
        (b"\xef\xbb\xbf" + PW.encode(), 400, "byte order mark"),
        (PW.encode("utf-16"), 400, "not UTF-8"),
        (b"{" + b" " * 65_535 + b"}", 413, "at most 65536"),
        (b"x" * 65 * 1024, 413, "at most 65536"),
        (b"x" * 2_000_000, 413, "at most 65536"),
    ],
)
def test_a_bad_body_gets_a_clear_error_and_changes_nothing(service, cluster, body, status, words):
    for authorization in ("Bearer wrong", f"Bearer {PASSWORD}"):
        answer = service.post(body=body, Authorization=authorization)
        assert (answer.status, answer.headers.get_content_type()) == (status, "text/plain")
        assert words in answer.text
        assert "Traceback" not in answer.text
    answer = service.post(body=body, Accept="application/json")
    assert answer.json().keys() == {"error", "reason"}
    assert words in answer.json()["error"]
    assert answer.json()["reason"] == {400: "BadRequest", 413: "RequestEntityTooLarge"}[status]
    assert cluster.get("web") is None


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"image": ""}, 400, "image: '' is no image"),
        ({"image": None}, 400, "image must be text"),
        ({"image": 1}, 400, "image must be text"),
        ({"image": ["acme/web:2"]}, 400, "image must be text"),
        ({"image": "acme/web"}, 400, "neither tag nor digest; write acme/web:latest"),
        ({"image": "acme/web:"}, 400, "is no image"),
        ({"image": "acme/web :2"}, 400, "is no image"),
        ({"image": "acme/web:2\n"}, 400, "is no image"),
        ({"image": "acme/web:2\x00"}, 400, "is no image"),
        ({"image": "acme/web:2\ud800"}, 400, "is no image"),
        ({"image": "Acme/Web:2"}, 400, "is no image"),
        ({"image": "../acme/web:2"}, 400, "is no image"),
        ({"image": "acme/../web:2"}, 400, "is no image"),
        ({"image": "acme/web@sha256:123"}, 400, "is no image"),
        ({"image": "acme/web:" + "x" * 60_000}, 400, "is no image"),
        ({"image": "acme/api:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "evil/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "ghcr.io/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "docker.io.evil.example/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "docker.io:443/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"cause": 1}, 400, "cause must be text"),
        ({"cause": "x" * 257}, 400, "at most 256"),
        ({"cause": "a\x00b"}, 400, "control character"),
        ({"dry_run": "yes"}, 400, "dry_run must be true or false"),
        ({"dry_run": 1}, 400, "dry_run must be true or false"),
    ],
)
def test_a_bad_field_gets_a_clear_error_and_changes_nothing(service, cluster, fields, status, words):
    for path in ("/deployment", "/deployment/web"):
        answer = service.post(path, {"pw": PASSWORD, **fields}, Accept="application/json")
        assert answer.status == status
        assert words in answer.json()["error"]
        assert answer.json()["reason"] == {400: "BadRequest", 403: "ImageNotAllowed"}[status]
    assert cluster.get("web") is None


@pytest.mark.parametrize(
    "name",
    ["nothing", "Web", "web.yaml", "web%20", "..", "../web", "%2e%2e%2fweb", "a%2fb", "web%2f", "/web", "w%00b", "%ff"],
)
def test_a_name_that_is_not_configured_is_a_404(service, cluster, name):
    for path in (f"/deployment/{name}", f"/check/{name}"):
        ask = service.get if "check" in path else service.post
        body = {} if "check" in path else {"body": {}}
        answer = ask(path, **body, Accept="application/json", Authorization=f"Bearer {PASSWORD}")
        assert (answer.status, answer.json()["reason"]) == (404, "NotFound")
    assert cluster.get("web") is None


@pytest.mark.parametrize(
    "path", ["/", "/deployments", "/Deployment", "/deploymentweb", "/favicon.ico", "/static/app.py"]
)
def test_nothing_is_at_other_paths(service, path):
    for ask in (service.post, service.get):
        answer = ask(path)
        assert answer.status == 404
        assert "signals go to /deployment" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/deployment", "POST"),
        ("DELETE", "/deployment", "POST"),
        ("PATCH", "/deployment/web", "POST"),
        ("DELETE", "/deployment/web", "POST"),
        ("POST", "/check", "GET"),
        ("DELETE", "/check/web", "GET"),
        ("POST", "/healthz", "GET"),
        ("PUT", "/readyz", "GET"),
    ],
)
def test_another_method_is_a_405_that_names_the_right_ones(service, method, path, allowed):
    answer = service.ask(method, path, PW, {"Accept": "application/json"})
    assert answer.status == 405
    assert allowed in answer.headers["Allow"].split(", ")
    assert method not in answer.headers["Allow"]
    assert answer.json()["reason"] == "MethodNotAllowed"
    assert allowed in answer.json()["error"]


# Text and JSON


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain", "text/plain"),
        ("text/*", "text/plain"),
        ("text/html", "text/plain"),
        ("nonsense", "text/plain"),
        ("text/plain, application/json", "text/plain"),
        ("application/json;q=0.5, text/plain", "text/plain"),
        ("application/json;q=0", "text/plain"),
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/*", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("application/json, */*;q=0.8", "application/json"),
    ],
)
def test_every_answer_is_text_unless_json_is_preferred(service, accept, kind):
    headers = {"Accept": accept} if accept else {}
    for answer in (
        service.post(body=PW, **headers),
        service.post(body="", **headers),
        service.post(body="{}", **headers),
        service.get("/healthz", **headers),
        service.get("/readyz", **headers),
        service.get("/nothing", **headers),
        service.get("/check", Authorization=f"Bearer {PASSWORD}", **headers),
        service.ask("PUT", "/deployment", "", headers),
    ):
        assert answer.headers.get_content_type() == kind
        if kind == "application/json" and answer.status >= 400:
            assert answer.json().keys() == {"error", "reason"}


# Bad files


def in_container(**fields):
    manifest = deployment("bad")
    manifest["spec"]["template"]["spec"]["containers"][0] |= fields
    return manifest


def without_image():
    manifest = deployment("bad")
    del manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return manifest


BAD_FILES = [
    ("two", "a: 1\n---\nb: 2\n", "two.yaml: holds 2 documents"),
    ("yaml", "a: 1\nb: [1\n", "yaml.yaml: line 3: "),
    ("empty", "", "empty.yaml: is empty"),
    ("service", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "service.yaml: kind: must be Deployment"),
    ("unknown", in_container(port=80), "unknown.yaml: spec.template.spec.containers[0].port: unknown field"),
    ("no-image", without_image(), "no-image.yaml: spec.template.spec.containers[0].image: required, but missing"),
    (
        "number",
        in_container(env=[{"name": "A", "value": 31337}]),
        "number.yaml: spec.template.spec.containers[0].env[0].value: must be text",
    ),
    ("no-template", deployment("bad", template={"metadata": {}}), "no-template.yaml: spec.template.spec: required"),
    ("itself", "apiVersion: apps/v1\nspec: &a [*a]\n", "itself.yaml: is nested too deep"),
    ("default", deployment("bad"), "default.yaml: the name default is reserved"),
    ("dockerhub", deployment("bad"), "dockerhub.yaml: the name dockerhub is reserved"),
    (
        "refused",
        in_container(ports=[{"containerPort": 99999}]),
        "refused.yaml: spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 99999",
    ),
    (
        "selector",
        deployment("bad", selector={"matchLabels": {"app": "other"}}),
        "selector.yaml: spec.template.metadata.labels: Invalid value",
    ),
]


def test_check_names_all_bad_files_at_once_and_a_signal_says_the_same(service, cluster):
    for name, content, _ in BAD_FILES:
        service.configure(name, content)
    answer = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert answer.status == 422
    lines = answer.text.splitlines()
    for name, _, words in BAD_FILES:
        mine = [line for line in lines if name in line.split()[1]]
        assert any(words in line for line in mine), (words, mine)
        signal = service.post(f"/deployment/{name}", {"pw": PASSWORD}, Accept="application/json")
        assert signal.status == 422
        for line in signal.json()["error"].splitlines():
            assert any(line in each for each in mine)
    assert [line.split(":")[0] for line in lines if " web: " in line] == ["ok"]
    assert "31337" not in answer.text
    assert service.signal("web").status == 200
    assert cluster.get("web")
    assert cluster.get("bad") is None


def test_check_of_one_deployment(service, cluster):
    service.configure("bad", "nonsense")
    good = service.get("/check/web", Authorization=f"Bearer {PASSWORD}")
    assert (good.status, good.text.split()[0].rstrip(":")) == (200, "ok")
    assert service.get("/check/bad", Authorization=f"Bearer {PASSWORD}").status == 422
    assert cluster.get("web") is None  # Checked by a dry run.
    service.signal("web")
    before = cluster.get("web")["spec"]
    assert service.get("/check/web", Authorization=f"Bearer {PASSWORD}").status == 200
    assert cluster.get("web")["spec"] == before


def test_check_without_any_deployment(service):
    (service.deployments_dir / "web.yaml").unlink()
    answer = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert answer.status == 422
    assert "put a manifest NAME.yaml into DEPLOYMENTS_DIR" in answer.text
    assert service.signal().status == 404


def test_a_right_that_is_missing_is_named(service, cluster):
    cluster.allow([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "create"]}])
    assert service.signal().status == 200
    answer = service.post(body={"pw": PASSWORD}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (500, "Forbidden")
    said = f'cannot patch resource "deployments" in API group "apps" in the namespace "{cluster.namespace}"'
    assert said in answer.json()["error"]
    checked = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert checked.status == 422
    assert said in checked.text


def test_a_namespace_without_rights_may_just_not_exist(service, cluster):
    manifest = deployment(namespace=f"{cluster.namespace}-not")
    service.configure("web", manifest)
    answer = service.signal()
    assert answer.status == 500
    assert f'in the namespace "{cluster.namespace}-not"' in answer.text
    assert "or the namespace doesn't exist" in answer.text
    assert service.get("/check", Authorization=f"Bearer {PASSWORD}").status == 422


SECRET = {"name": "PASSWORD", "value": "hunter2-hunter2"}
POD_NAME = {"fieldRef": {"fieldPath": "metadata.name"}}
TOO_MUCH = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"env": [SECRET], "ports": [{"containerPort": 99999}]},
        pytest.param({"env": [SECRET, {"name": "1=2", "value": "hunter2-hunter2"}]}, marks=pytest.mark.real_only),
        pytest.param({"env": [SECRET | {"valueFrom": POD_NAME}]}, marks=pytest.mark.real_only),
        {"env": [SECRET], "volumeMounts": [{"name": "nothing", "mountPath": "/x"}]},
        {"env": [SECRET], "imagePullPolicy": "Sometimes"},
        pytest.param({"env": [SECRET], "resources": TOO_MUCH}, marks=pytest.mark.real_only),
        {"env": [SECRET], "resources": {"requests": {"cpu": "two"}}},
    ],
    ids=["port", "env-name", "env-twice", "volume", "pull-policy", "requests", "quantity"],
)
def test_what_the_api_server_refuses_is_told_without_environment_values(service, cluster, fields):
    refused = deployment()
    refused["spec"]["template"]["spec"]["containers"][0] |= fields
    service.configure("web", refused)
    created = service.signal()
    service.configure("web", deployment())
    assert service.signal().status == 200
    service.configure("web", refused)
    for answer in (created, service.signal()):
        assert (answer.status, "hunter2" in answer.text) == (422, False), answer.text
        assert "restartedAt" not in answer.text
        assert answer.text.startswith("web.yaml: ")


def test_a_selector_is_immutable(service, cluster):
    service.signal()
    manifest = deployment(selector={"matchLabels": {"app": "web", "tier": "a"}})
    manifest["spec"]["template"]["metadata"]["labels"] |= {"tier": "a"}
    service.configure("web", manifest)
    answer = service.signal()
    assert answer.status == 422
    assert "web.yaml: spec.selector: " in answer.text
    assert "field is immutable" in answer.text


# Health


def test_healthz_and_readyz(service):
    for path in ("/healthz", "/readyz"):
        answer = service.get(path)
        assert (answer.status, answer.text) == (200, "ok\n")
        assert service.ask("HEAD", path).status == 200


@pytest.mark.simulated_only
def test_health_does_not_depend_on_the_cluster(service, cluster):
    cluster.simulation.stop_serving()
    try:
        assert service.get("/healthz").status == 200
        assert service.get("/readyz").status == 200
        assert service.signal().status == 503
        assert service.get("/check", Authorization=f"Bearer {PASSWORD}").status == 422
    finally:
        cluster.simulation.serve_again()
    assert service.signal().status == 200


def test_one_bad_manifest_takes_the_service_away_from_nobody(service):
    service.configure("bad", "nonsense: [")
    assert service.get("/readyz").status == 200


def test_a_weak_password_is_named_but_not_shown(service):
    service.password("web", "too-short", PASSWORD)
    answer = service.get("/readyz", Accept="application/json")
    assert answer.status == 200
    assert "web, line 1, opens nothing" in answer.text
    assert "too-short" not in answer.text


@pytest.mark.parametrize("missing", ["passwords", "password", "deployments"])
def test_not_ready_without(service, missing):
    if missing == "password":
        service.password("default", "change-me-change-me")
    else:
        folder = service.passwords_dir if missing == "passwords" else service.deployments_dir
        moved = folder.rename(folder.with_name("moved"))
    answer = service.get("/readyz")
    assert answer.status == 503
    assert ("can't be read" if missing != "password" else "no usable password") in answer.text
    assert "change-me" not in answer.text
    assert service.get("/healthz").status == 200
    if missing != "password":
        moved.rename(folder)
        assert service.get("/readyz").status == 200


# The log


def test_the_log_names_the_request_the_deployment_and_the_rollout(service, cluster):
    answer = service.post(body={"pw": PASSWORD}, X_Request_ID="build-7.1_a")
    assert answer.headers["X-Request-ID"] == "build-7.1_a"
    lines = service.logged(answer)
    assert {"method": "POST", "path": "/deployment", "status": 200}.items() <= lines[-1].items()
    told = {"deployment": "web", "namespace": cluster.namespace, "id": stamp(cluster.get("web"))}
    assert any(told.items() <= line.items() for line in lines)


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "ä", "{}", "a/b"])
def test_a_request_id_that_is_no_plain_word_is_replaced(service, given):
    answer = service.get("/nothing", X_Request_ID=given)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_no_secret_is_ever_logged(service):
    wrong = "a-wrong-password-1234"
    for fields in ({"pw": PASSWORD}, {"pw": wrong}, {"pw": PASSWORD, "image": 7}, {"pw": PASSWORD, "image": "x/y:1"}):
        service.post(body=fields)
    service.post(body=f'{{"pw": "{wrong}')
    service.post("/deployment/nothing?pw=" + wrong, {"pw": PASSWORD})
    service.get("/check", Authorization=f"Bearer {PASSWORD}")
    service.get("/check", Authorization=basic(wrong))
    service.logged(service.get("/check", Authorization=f"Bearer {wrong}"))
    log = "\n".join(service.lines)
    for secret in (PASSWORD, wrong, basic(wrong), "Bearer "):
        assert secret not in log
