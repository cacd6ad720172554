"""Which ReplicaSet and which pods belong to a rollout, and which digests these pods run."""

import copy

import pytest

from manifest.pod_template import running_digests
from rollout.model import Phase
from tests.rollout.cases import Case, condition, edit, exited, up, waiting

PROGRESSING, COMPLETE = Phase.PROGRESSING, Phase.COMPLETE
D1, D2 = ("sha256:" + each * 64 for each in "12")


def test_neither_the_rollout_id_nor_the_highest_revision_tells_the_replica_set():
    case = up()
    other = copy.deepcopy(case.replicaset)
    other["metadata"] |= {"name": "complete-1", "uid": "another"}
    other["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "9"
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "acme/web:by-kubectl-set-image"
    case.replicasets.insert(0, other)
    verdict = case.verdict()
    assert (verdict.phase, verdict.revision) == (COMPLETE, 2)


def test_a_replica_set_of_a_deployment_that_is_gone_is_not_ours():
    case = up()
    orphan = copy.deepcopy(case.replicaset)
    orphan["metadata"] |= {"name": "orphan", "uid": "orphan"}
    orphan["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "9"
    orphan["metadata"]["ownerReferences"][0]["uid"] = "gone"
    ownerless = copy.deepcopy(orphan)
    del ownerless["metadata"]["ownerReferences"]
    case.replicasets = [orphan, ownerless, *case.replicasets]
    assert case.verdict().revision == 2


def test_pods_of_older_replica_sets_are_neither_counted_nor_named():
    case = Case("complete", 6)
    old = [each for each in case.everything if each not in case.pods]
    for pod in old:
        edit(pod, state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=9, ready=False)
        condition(pod, "Ready", status="False")
    assert case.found() == (PROGRESSING, ["complete: ContainersNotReady"])


def test_only_the_label_that_the_controller_adds_makes_no_difference():
    case = up()
    assert case.replicaset["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    case.replicaset["spec"]["template"]["metadata"]["labels"]["tier"] = "x"
    assert case.replicaset is None


# Digests


def template_of(*images, init=()):
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    inits = [{"name": f"i{number}", "image": image} for number, image in enumerate(init)]
    return {"spec": {"containers": containers} | ({"initContainers": inits} if inits else {})}


def pod_with(*image_ids, init=()):
    statuses = [{"name": f"c{number}", "imageID": each} for number, each in enumerate(image_ids)]
    inits = [{"name": f"i{number}", "imageID": each} for number, each in enumerate(init)]
    return {"status": {"containerStatuses": statuses, "initContainerStatuses": inits}}


@pytest.mark.parametrize(
    ("image", "image_id", "digest"),
    [
        ("acme/web:1", f"docker.io/acme/web@{D1}", D1),
        ("acme/web:1", f"docker-pullable://acme/web@{D1}", D1),
        ("acme/web", f"acme/web@{D1}", D1),
        ("docker.io/acme/web:1", f"index.docker.io/acme/web@{D1}", D1),
        ("nginx", f"docker.io/library/nginx@{D1}", D1),
        ("localhost:5000/web:1", f"localhost:5000/web@{D1}", D1),
        (f"acme/web@{D1}", f"docker.io/acme/web@{D1}", D1),
        (f"acme/web:1@{D1}", f"docker.io/acme/web@{D1}", D1),
        ("acme/web:1", D1, None),
        ("acme/web:1", f"docker://{D1}", None),
        ("acme/web:1", "", None),
        ("acme/web:1", f"docker.io/acme/api@{D1}", None),
        ("acme/web:1", f"ghcr.io/acme/web@{D1}", None),
        ("acme/web:1", "docker.io/acme/web@sha512:" + "1" * 128, None),
        ("acme/web:1", "something else@entirely", None),
    ],
)
def test_a_digest_counts_if_its_repository_is_that_of_the_image(image, image_id, digest):
    expected = {"c0": digest} if digest else {}
    assert running_digests(template_of(image), [pod_with(image_id), pod_with(image_id)]) == (expected, False)


def test_every_container_has_its_own_digest():
    template = template_of("acme/web:1", "envoy:1", init=["acme/web:1"])
    pod = pod_with(f"docker.io/acme/web@{D1}", f"docker.io/library/envoy@{D2}", init=[f"docker.io/acme/web@{D1}"])
    assert running_digests(template, [pod]) == ({"c0": D1, "c1": D2, "i0": D1}, False)


def test_pods_of_one_rollout_with_different_digests():
    pods = [pod_with(f"docker.io/acme/web@{each}", f"docker.io/library/envoy@{D2}") for each in (D1, D2)]
    assert running_digests(template_of("acme/web:latest", "envoy:1"), pods) == ({}, True)


@pytest.mark.parametrize("pods", [[], [{"status": {}}], [{}], [pod_with()]])
def test_pods_that_say_nothing_have_no_digest(pods):
    assert running_digests(template_of("acme/web:1"), pods) == ({}, False)


def test_the_recorded_pods_have_a_digest():
    case = up()
    (digest,) = {each["status"]["containerStatuses"][0]["imageID"].partition("@")[2] for each in case.pods}
    assert running_digests(case.template, case.pods) == ({"complete": digest}, False)
