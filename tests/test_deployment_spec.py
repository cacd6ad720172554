"""A manifest, a signal and the live Deployment make what is sent to the API server."""

import copy
import json
from functools import partial

import pytest

from deployment_spec import Signal, build_rollback
from errors import NotFound, OtherImage
from manifest.annotations import UNPINNED
from tests.manifest.samples import (
    DIGEST,
    DIGESTS,
    FORMER,
    MANIFEST,
    NEW_ID,
    PINNED,
    WITHOUT_SPEC,
    changed,
    container,
    images,
    live,
    sent,
    write_and_load,
)


@pytest.fixture
def read(tmp_path):
    """Write a manifest file, and read it."""
    return partial(write_and_load, tmp_path)


SENT_BY = {
    "by": "octocat, acme/web@1234567",
    "link": "https://github.com/acme/web/actions/runs/7",
    "key": "7-1-deploy",
    "fingerprint": "f",
}
NOTHING_NOTED = dict.fromkeys(("image", "rollback_on_failure", "by", "link", "key", "fingerprint"))


def noted(**asked):
    """Return the annotation that keeps what a signal asked for, and who sent it."""
    return json.dumps({"id": NEW_ID} | NOTHING_NOTED | asked)


# What is sent


@pytest.mark.parametrize(("content", "live_one"), [(MANIFEST, None), (MANIFEST, live()), (WITHOUT_SPEC, live())])
@pytest.mark.parametrize("wanted", [None, True, False])
def test_what_the_signal_asks_for_stands_on_the_deployment_and_not_on_its_pods(read, content, live_one, wanted):
    asked = {"image": "acme/web:2", "rollback_on_failure": wanted} | SENT_BY
    body = sent(read(content), live_one, **asked)
    assert body["metadata"]["annotations"]["auto-deployer/signal"] == noted(**asked)
    assert "auto-deployer/signal" not in body["spec"]["template"]["metadata"]["annotations"]


def test_a_new_deployment_gets_a_rollout_id_and_a_change_cause(read):
    body = sent(read(MANIFEST))
    assert body["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": NEW_ID}
    assert body["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "deploy acme/web:1",
        "auto-deployer/signal": noted(),
    }
    assert "replicas" not in body["spec"]
    assert "labels" not in body["metadata"]


def test_annotations_of_the_manifest_are_kept(read):
    manifest = changed("  name: web\n", "  name: web\n  annotations: {team: a}\n")
    manifest = manifest.replace("    metadata:\n", "    metadata:\n      annotations: {scrape: 'yes'}\n")
    body = sent(read(manifest), cause="tests passed")
    assert body["metadata"]["annotations"] == {
        "team": "a",
        "kubernetes.io/change-cause": "tests passed",
        "auto-deployer/signal": noted(),
    }
    assert body["spec"]["template"]["metadata"]["annotations"] == {"scrape": "yes", "auto-deployer/restartedAt": NEW_ID}


def test_a_template_without_metadata_gets_a_rollout_id_too(read):
    manifest = changed("    metadata:\n      labels:\n        app: web\n", "")
    assert sent(read(manifest))["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": NEW_ID}


def test_a_patch_replaces_the_spec_but_keeps_replicas_that_the_manifest_does_not_set(read):
    spec = sent(read(MANIFEST), live())["spec"]
    assert spec["$patch"] == "replace"
    assert spec["replicas"] == 5
    assert sent(read(changed("spec:\n  sel", "spec:\n  replicas: 2\n  sel")), live())["spec"]["replicas"] == 2
    assert sent(read(changed("spec:\n  sel", "spec:\n  replicas: 0\n  sel")), live())["spec"]["replicas"] == 0


# Old pods stay until the new ones have settled

PROBE = "readinessProbe: {httpGet: {path: /, port: 80}}"
PROBED = changed("          image: acme/web:1\n", f"          image: acme/web:1\n          {PROBE}\n")
ONE_OF_TWO_PROBED = PROBED + "        - name: proxy\n          image: envoy:1\n"


def with_spec(line, manifest=MANIFEST):
    return manifest.replace("spec:\n  selector:", f"spec:\n  {line}\n  selector:")


@pytest.mark.parametrize("live_one", [None, live(), live(minReadySeconds=3)], ids=["new", "live", "live with a number"])
@pytest.mark.parametrize(
    ("manifest", "settle_seconds", "expected"),
    [
        (MANIFEST, 10, 10),
        (ONE_OF_TWO_PROBED, 10, 10),
        (with_spec("progressDeadlineSeconds: 11"), 10, 10),
        # A probe tells Kubernetes when a pod is ready.
        (PROBED, 10, None),
        # The manifest's own number counts, also 0.
        (with_spec("minReadySeconds: 3"), 10, 3),
        (with_spec("minReadySeconds: 0"), 10, 0),
        # Kubernetes wants a deadline that is longer: it would give up before a pod is available.
        (with_spec("progressDeadlineSeconds: 10"), 10, None),
        (MANIFEST, 600, None),
        (MANIFEST, 0, None),
    ],
)
def test_without_a_readiness_probe_old_pods_stay_for_the_settling_time(
    read, manifest, settle_seconds, expected, live_one
):
    spec = sent(read(manifest), live_one, settle_seconds)["spec"]
    assert spec.get("minReadySeconds") == expected


def test_a_manifest_without_spec_leaves_min_ready_seconds_alone(read):
    assert "minReadySeconds" not in sent(read(WITHOUT_SPEC), live(), 10)["spec"]


# Images


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("acme/web:1", "acme/web:2"),
        ("acme/web", "docker.io/acme/web:2"),
        ("docker.io/acme/web:1", f"acme/web@{DIGEST}"),
        ("acme/web:1", f"acme/web:2@{DIGEST}"),
        ("nginx", "docker.io/library/nginx:2"),
        ("ghcr.io/acme/web:1", "ghcr.io/acme/web:2"),
    ],
)
def test_an_image_of_the_same_repository_is_sent_as_the_signal_wrote_it(read, written, image):
    body = sent(read(changed("acme/web:1", written)), image=image)
    assert container(body)["image"] == image
    assert body["metadata"]["annotations"]["kubernetes.io/change-cause"] == f"deploy {image}"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("acme/api:1", "doesn't run docker.io/acme/api; it may get an image of docker.io/acme/web"),
        ("ghcr.io/acme/web:1", "doesn't run ghcr.io/acme/web"),
        ("docker.io.evil.example/acme/web:1", "it may get an image of docker.io/acme/web"),
    ],
)
def test_another_image_is_refused(read, image, words):
    for there in (None, live()):
        with pytest.raises(OtherImage) as refused:
            sent(read(MANIFEST), there, image=image)
        assert words in str(refused.value)


def test_every_container_with_the_repository_gets_the_image(read):
    more = "        - {name: worker, image: 'docker.io/acme/web:0'}\n        - {name: proxy, image: envoy}\n"
    manifest = read(MANIFEST + more + "      initContainers: [{name: migrate, image: acme/web}]\n")
    body = sent(manifest, image="acme/web:2")
    assert [container(body, n)["image"] for n in range(3)] == ["acme/web:2", "acme/web:2", "envoy"]
    assert container(body, of="initContainers")["image"] == "acme/web:2"
    # The manifest is cached and has not changed: a signal without an image gets the manifest's.
    assert container(sent(manifest))["image"] == "acme/web:1"


# Without spec


def test_a_manifest_without_spec_changes_only_the_rollout_id(read):
    body = sent(read(WITHOUT_SPEC), live(), cause="nightly")
    assert body["spec"]["template"]["metadata"]["annotations"]["auto-deployer/restartedAt"] == NEW_ID
    assert body["metadata"]["annotations"]["kubernetes.io/change-cause"] == "nightly"
    assert body["spec"].keys() == {"template"}
    assert not body["spec"]["template"]["spec"]


def test_a_manifest_without_spec_passes_the_image_on_to_its_containers(read):
    body = sent(read(WITHOUT_SPEC), live(), image="acme/web:2")
    assert body["spec"]["template"]["spec"] == {"containers": [{"name": "web", "image": "acme/web:2"}]}
    with pytest.raises(OtherImage, match=r"it may get an image of docker\.io/acme/web or docker\.io/library/envoy"):
        sent(read(WITHOUT_SPEC), live(), image="acme/api:1")


def test_a_manifest_without_spec_creates_nothing(read):
    with pytest.raises(NotFound, match=r"deployment web isn't in namespace team, and web\.yaml has no spec"):
        sent(read(WITHOUT_SPEC), None)


# Rollback


ROLLBACK = Signal(cause="rollback to revision 6", **SENT_BY)


def rolled_back(manifest, former=FORMER, digests=DIGESTS):
    return build_rollback(manifest, former, digests, 6, NEW_ID, ROLLBACK, live())


UNPINNED_IMAGES = {"web": "acme/web:latest", "migrate": "acme/web:latest"}


@pytest.mark.parametrize("content", [MANIFEST, WITHOUT_SPEC])
def test_a_rollback_brings_the_former_template_back_with_a_new_rollout_id(read, content):
    before = copy.deepcopy(FORMER)
    body = rolled_back(read(content))
    assert body["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "rollback to revision 6",
        "auto-deployer/rolled-back-to": "6",
        "auto-deployer/signal": noted(**SENT_BY),
    }
    template = body["spec"]["template"]
    assert template["$patch"] == "replace"
    assert template["metadata"]["labels"] == {"app": "web"}
    assert template["metadata"]["annotations"].items() >= {"scrape": "yes", "auto-deployer/restartedAt": NEW_ID}.items()
    assert "creationTimestamp" not in template["metadata"]
    assert template["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    assert images(template) == PINNED
    assert "replicas" not in body["spec"]
    assert before == FORMER


def test_a_rollback_keeps_the_former_names_only_for_a_manifest_without_spec(read):
    annotations = rolled_back(read(MANIFEST))["spec"]["template"]["metadata"]["annotations"]
    assert UNPINNED not in annotations
    annotations = rolled_back(read(WITHOUT_SPEC))["spec"]["template"]["metadata"]["annotations"]
    assert json.loads(annotations[UNPINNED]) == UNPINNED_IMAGES


@pytest.mark.parametrize("content", [MANIFEST, WITHOUT_SPEC])
def test_without_a_digest_the_image_stays_as_it_was(read, content):
    template = rolled_back(read(content), digests={})["spec"]["template"]
    assert images(template) == images(FORMER)
    assert UNPINNED not in template["metadata"]["annotations"]


def test_a_rollback_to_a_rollback_still_knows_the_first_names(read):
    former = rolled_back(read(WITHOUT_SPEC))["spec"]["template"]
    del former["$patch"]
    template = rolled_back(read(WITHOUT_SPEC), former)["spec"]["template"]
    assert images(template) == PINNED
    assert json.loads(template["metadata"]["annotations"][UNPINNED]) == UNPINNED_IMAGES
    assert UNPINNED not in rolled_back(read(MANIFEST), former)["spec"]["template"]["metadata"]["annotations"]


def test_a_rollback_creates_nothing(read):
    with pytest.raises(NotFound, match="deployment web isn't in namespace default"):
        build_rollback(read(MANIFEST), FORMER, DIGESTS, 6, NEW_ID, ROLLBACK, None)


def restored(read):
    """Return the live Deployment after a rollback."""
    template = rolled_back(read(WITHOUT_SPEC))["spec"]["template"]
    return {"spec": {"replicas": 2, "template": template}}


def test_the_next_signal_without_an_image_puts_the_former_names_back(read):
    body = sent(read(WITHOUT_SPEC), restored(read))
    assert body["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": NEW_ID, UNPINNED: None}
    assert images(body["spec"]["template"]) == UNPINNED_IMAGES
    assert body["metadata"]["annotations"]["kubernetes.io/change-cause"] == "deploy acme/web:latest"


def test_the_next_signal_with_an_image_gives_it_to_the_containers_that_were_pinned(read):
    body = sent(read(WITHOUT_SPEC), restored(read), image="acme/web:3")
    assert images(body["spec"]["template"]) == {"web": "acme/web:3", "migrate": "acme/web:3"}
    assert body["spec"]["template"]["metadata"]["annotations"][UNPINNED] is None


def test_an_image_for_one_repository_unpins_the_others_too(read):
    after = restored(read)
    after["spec"]["template"]["metadata"]["annotations"][UNPINNED] = '{"web": "acme/web:latest", "proxy": "envoy:1"}'
    body = sent(read(WITHOUT_SPEC), after, image="docker.io/library/envoy:2")
    assert images(body["spec"]["template"]) == {"web": "acme/web:latest", "proxy": "docker.io/library/envoy:2"}


def test_a_container_that_was_removed_is_not_sent(read):
    after = restored(read)
    after["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
    body = sent(read(WITHOUT_SPEC), after)
    assert images({"spec": {"containers": [], **body["spec"]["template"]["spec"]}}) == {"migrate": "acme/web:latest"}


@pytest.mark.parametrize("nonsense", ["", "nonsense", "[]", "3", '{"web": 3}'])
def test_another_client_overwrites_the_former_names(read, nonsense):
    after = restored(read)
    after["spec"]["template"]["metadata"]["annotations"][UNPINNED] = nonsense
    body = sent(read(WITHOUT_SPEC), after)
    assert body["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": NEW_ID, UNPINNED: None}
    assert not body["spec"]["template"]["spec"]
    rolled_back(read(WITHOUT_SPEC), after["spec"]["template"])
