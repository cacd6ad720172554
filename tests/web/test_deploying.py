"""Signals that deploy: what they change in the cluster, on a simulated one, or with --kubeconfig on a real one."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import deployment
from tests.service import PASSWORD
from tests.web.helpers import DIGEST, images, rollout_id, template

# A signal


def test_the_first_signal_creates_and_the_second_rolls_out_again(service, cluster):
    first = service.signal()
    assert first.status == 200
    assert first.text.split()[0].rstrip(":") == "ok"
    assert first.headers.get_content_type() == "text/plain"
    live = cluster.get("web")
    assert rollout_id(live) in first.text
    assert images(live) == ["acme/web:1"]
    assert live["metadata"]["annotations"]["kubernetes.io/change-cause"] == "deploy acme/web:1"
    cluster.wait_for(lambda: len(cluster.replica_sets()) == 1)
    assert service.signal().status == 200
    assert rollout_id(cluster.get("web")) > rollout_id(live)
    cluster.wait_for(lambda: len(cluster.replica_sets()) == 2)


def test_a_rollout_in_json(service, cluster):
    answer = service.post(body={"pw": PASSWORD, "image": "acme/web:2"}, Accept="application/json")
    assert (answer.status, answer.headers.get_content_type()) == (200, "application/json")
    rollout = answer.json()
    expected = {
        "id": rollout_id(cluster.get("web")),
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


def test_the_cause_is_in_the_history(service, cluster):
    assert service.signal(cause="Grüße 🚀: tests passed").status == 200
    assert cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"] == "Grüße 🚀: tests passed"
    assert service.signal().status == 200
    assert cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"] == "deploy acme/web:1"


@pytest.mark.parametrize(
    "image",
    ["acme/web:2", "docker.io/acme/web:2", f"acme/web@{DIGEST}", f"acme/web:2@{DIGEST}", "index.docker.io/acme/web:2"],
)
def test_the_image_of_a_signal_runs_until_a_signal_without_image(service, cluster, image):
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


def test_the_url_names_one_of_several_deployments(service, cluster):
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


# What a deploy replaces and what it keeps


def test_a_deploy_makes_the_spec_exactly_that_of_the_manifest(service, cluster):
    service.signal()
    change = {
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
    cluster.patch(change)
    assert images(cluster.get("web")) in (["acme/web:1", "envoy:1"], ["envoy:1", "acme/web:1"])
    assert service.signal().status == 200
    live = cluster.get("web")
    assert images(live) == ["acme/web:1"]
    assert "env" not in template(live)["spec"]["containers"][0]
    assert live["spec"]["minReadySeconds"] == 10
    assert template(live)["metadata"]["annotations"].keys() == {"auto-deployer/restartedAt"}
    # A deploy doesn't touch labels and annotations that other tools set beside the spec.
    assert live["metadata"]["labels"] == {"by": "hand"}
    assert live["metadata"]["annotations"]["by"] == "hand"


def test_a_deploy_removes_a_field_that_the_manifest_no_longer_has(service, cluster):
    service.configure("web", deployment(minReadySeconds=5, revisionHistoryLimit=2))
    service.signal()
    assert cluster.get("web")["spec"]["revisionHistoryLimit"] == 2
    service.configure("web", deployment())
    service.signal()
    # Not 5: without a probe and without a number of the manifest's own, it is the settling time.
    assert cluster.get("web")["spec"]["minReadySeconds"] == 10
    assert cluster.get("web")["spec"]["revisionHistoryLimit"] == 10


def test_a_deploy_keeps_the_replicas_when_the_manifest_has_none(service, cluster):
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


def test_a_deploy_takes_over_a_deployment_of_another_tool(service, cluster):
    cluster.create(deployment(image="acme/web:0", revisionHistoryLimit=3))
    assert service.signal().status == 200
    assert images(cluster.get("web")) == ["acme/web:1"]
    assert cluster.get("web")["spec"]["revisionHistoryLimit"] == 10


WITHOUT_SPEC = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}


def test_a_manifest_without_spec_changes_only_the_rollout_id_and_the_image(service, cluster):
    cluster.create(deployment(image="acme/web:5", replicas=2, minReadySeconds=1))
    service.configure("web", WITHOUT_SPEC)
    before = cluster.get("web")
    answer = service.signal()
    assert answer.status == 200
    assert "acme/web:5" in answer.text
    live = cluster.get("web")
    assert rollout_id(live) in answer.text
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


def test_a_signal_changes_nothing_in_a_paused_deployment(service, cluster):
    service.signal()
    cluster.patch({"spec": {"paused": True}})
    before = cluster.get("web")["spec"]
    answer = service.post(body={"pw": PASSWORD, "image": "acme/web:2"}, Accept="application/json")
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
    (mine,) = [answer for answer in answers if rollout_id(live) in answer.text]
    assert images(live)[0] in mine.text
