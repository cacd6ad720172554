"""What is deployed: a manifest file and a signal make what is sent."""

import copy
import json
import re

import pytest

from deployment_spec import Signal, build, build_rollback
from errors import BadRequest, Invalid, NotFound, OtherImage
from manifest.annotations import UNPINNED
from manifest.files import configured, load
from manifest.pod_template import image_of, new_rollout_id, pinned, without_own_annotations

DIGEST = "sha256:" + "0123456789abcdef" * 4
STAMP = "20261122T201503.123456Z"
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
        - name: web
          image: acme/web:1
"""
WITHOUT_SPEC = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: team\n"


@pytest.fixture
def read(tmp_path):
    def read(content, name="web"):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"{name}.yaml").write_bytes(content)
        return load(tmp_path, name)

    return read


def changed(old, new):
    assert old in MANIFEST
    return MANIFEST.replace(old, new)


def in_container(yaml):
    return MANIFEST + f"          {yaml}\n"


def sent(manifest, live=None, **fields):
    """Return what goes to the API server, as JSON."""
    body = build(manifest, Signal(**fields), STAMP, live)
    return body if isinstance(body, dict) else body.model_dump(mode="json", by_alias=True, exclude_none=True)


def container(body, index=0, of="containers"):
    return body["spec"]["template"]["spec"][of][index]


def live(image="acme/web:1", **spec):
    pod = {"containers": [{"name": "web", "image": image}, {"name": "proxy", "image": "envoy:1"}]}
    return {"spec": {"replicas": 5, "template": {"metadata": {}, "spec": pod}} | spec}


# The files


def test_every_yaml_file_is_a_deployment(tmp_path):
    for name in ("web.yaml", "api.yaml", "notes.txt", "worker.yml", ".hidden.yaml", "a.b.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "..data").mkdir()
    assert configured(tmp_path) == ["a.b", "api", "web"]


def test_a_config_map_as_kubernetes_mounts_it(tmp_path):
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..2026_11_22" / "web.yaml").write_text(MANIFEST)
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")
    assert configured(tmp_path) == ["web"]
    assert load(tmp_path, "web").name == "web"


def test_a_directory_that_is_missing(tmp_path):
    with pytest.raises(NotFound, match="can't be read: No such file or directory"):
        configured(tmp_path / "nowhere")


def test_a_file_is_read_anew_when_it_has_changed(read):
    assert sent(read(MANIFEST))["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:1"
    assert container(sent(read(changed("acme/web:1", "acme/web:2"))))["image"] == "acme/web:2"


@pytest.mark.parametrize("name", ["rollback", "default", "dockerhub"])
def test_reserved_names(read, name):
    with pytest.raises(Invalid, match=f"{name}.yaml: the name {name} is reserved"):
        read(MANIFEST, name)


def test_the_namespace_is_the_manifest_s_or_default(read):
    assert read(MANIFEST).namespace == "default"
    assert read(changed("  name: web\n", "  name: web\n  namespace: team\n")).namespace == "team"


@pytest.mark.parametrize("content", [MANIFEST.replace("\n", "\r\n"), "\ufeff" + MANIFEST, f"---\n{MANIFEST}---\n"])
def test_line_ends_and_marks_are_harmless(read, content):
    assert container(sent(read(content)))["image"] == "acme/web:1"


def test_what_kubectl_get_wrote_can_be_deployed(read):
    server_s = "  uid: x\n  resourceVersion: '7'\n  generation: 3\n  creationTimestamp: 2026-11-22T20:15:03Z\n"
    body = sent(read(changed("  name: web\n", f"  name: web\n{server_s}") + "status:\n  replicas: 1\n"))
    assert body["metadata"].keys() == {"name", "annotations"}
    assert "status" not in body


# What is wrong with them


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("", ["is empty"]),
        (b"\xff\xfe", ["line 1: is not UTF-8"]),
        ("- a\n", ["must be a Deployment manifest"]),
        ("web\n", ["must be a Deployment manifest"]),
        (f"{MANIFEST}---\n{MANIFEST}", ["holds 2 documents"]),
        (f"{MANIFEST}  - x", ["line 17: "]),
        (changed("kind: Deployment", "kind: StatefulSet"), ["kind: must be Deployment"]),
        (changed("apps/v1", "extensions/v1beta1"), ["apiVersion: must be apps/v1"]),
        (
            "apiVersion: v1\nkind: List\nitems: []\n",
            ["apiVersion: must be", "kind: must be", "metadata.name: required", "items: unknown field"],
        ),
        (changed("  name: web\nspec", "  labels: {}\nspec"), ["metadata.name: required, but missing"]),
        (changed("metadata:\n  name: web\n", "metadata:\n"), ["metadata.name: required, but missing"]),
        (changed("name: web\nspec", "name: Web_1\nspec"), ["metadata.name: must be lower-case letters"]),
        (changed("name: web\nspec", "name: ../../x\nspec"), ["metadata.name: must be lower-case letters"]),
        (changed("name: web\nspec", "name: web\n  namespace: a/b\nspec"), ["metadata.namespace: must be lower-case"]),
        (in_container("port: 80"), ["spec.template.spec.containers[0].port: unknown field"]),
        (in_container("image_pull_policy: Always"), ["containers[0].image_pull_policy: unknown field"]),
        (
            changed("          image: acme/web:1\n", ""),
            ["spec.template.spec.containers[0].image: required, but missing"],
        ),
        (changed("acme/web:1", "Acme Web"), ["spec.template.spec.containers[0].image: 'Acme Web' is no image"]),
        (changed("acme/web:1", "1"), ["containers[0].image: must be text; put it into quotes"]),
        (
            MANIFEST + "      initContainers:\n        - name: migrate\n",
            ["spec.template.spec.initContainers[0].image: required, but missing"],
        ),
        (changed("        - name: web\n          image: acme/web:1\n", "        []\n"), ["at least one is required"]),
        (
            in_container("env: [{name: A, value: 31337}]"),
            ["env[0].value: must be text; put it into quotes"],
        ),
        (
            in_container("env: [{name: A, value: yes}]"),
            ["env[0].value: must be text; put it into quotes"],
        ),
        (in_container("env: {A: hunter2}"), ["spec.template.spec.containers[0].env: must be a list"]),
        (in_container("ports: [{containerPort: http}]"), ["ports[0].containerPort: must be a whole number"]),
        (changed("spec:\n  sel", "spec:\n  replicas: many\n  sel"), ["spec.replicas: must be a whole number"]),
        (changed("spec:\n  sel", "spec:\n  paused: 1\n  sel"), ["spec.paused: must be true or false"]),
        (
            changed("spec:\n  sel", "spec:\n  strategy: {rollingUpdate: {maxSurge: 1.5}}\n  sel"),
            ["spec.strategy.rollingUpdate.maxSurge: must be a whole number or text"],
        ),
        (MANIFEST.partition("spec:")[0] + "spec:\n", ["spec: must hold fields"]),
        (MANIFEST.partition("spec:")[0] + "spec: {}\n", ["spec.selector: required", "spec.template: required"]),
        (MANIFEST.partition("    spec:\n")[0], ["spec.template.spec: required, but missing"]),
        (f"{WITHOUT_SPEC}  lables: {{}}\n", ["metadata.lables: unknown field"]),
        (in_container("args: &a [*a]"), ["nested too deep"]),
        (MANIFEST + "      x: " + "{a: " * 2_000 + "1" + "}" * 2_000, ["nested too deep"]),
        (
            changed("acme/web:1", "Acme") + "          port: 1\n      restart: Always\n",
            ["containers[0].port: unknown field", "spec.restart: unknown field", "'Acme' is no image"],
        ),
    ],
)
def test_all_that_is_wrong_is_named_with_file_and_field_and_without_values(read, content, lines):
    with pytest.raises(Invalid) as refused:
        read(content)
    found = str(refused.value).splitlines()
    assert len(found) == len(lines)
    for line, words in zip(found, lines, strict=True):
        assert line.startswith("web.yaml: ")
        assert words in line
    assert not re.search("31337|hunter2", str(refused.value))


@pytest.mark.parametrize(
    ("yaml", "field", "written"),
    [
        ("resources: {limits: {cpu: 1, memory: 64Mi}}", ["resources", "limits"], {"cpu": "1", "memory": "64Mi"}),
        ("resources: {requests: {cpu: 0.5}}", ["resources", "requests"], {"cpu": "0.5"}),
        ("args: [22:30, '017']", ["args"], ["22:30", "017"]),
        ("env: [{name: A, value: 2026-11-22}]", ["env"], [{"name": "A", "value": "2026-11-22"}]),
        ("readinessProbe: {httpGet: {port: http}}", ["readinessProbe", "httpGet"], {"port": "http"}),
        ("readinessProbe: {httpGet: {port: 80}}", ["readinessProbe", "httpGet"], {"port": 80}),
    ],
)
def test_what_kubectl_s_users_write_is_understood(read, yaml, field, written):
    found = container(sent(read(in_container(yaml))))
    for step in field:
        found = found[step]
    assert found == written


def test_a_size_limit_may_be_a_number(read):
    volumes = "      volumes: [{name: tmp, emptyDir: {sizeLimit: 1000000}}]\n"
    assert sent(read(MANIFEST + volumes))["spec"]["template"]["spec"]["volumes"][0]["emptyDir"] == {
        "sizeLimit": "1000000"
    }


# What is sent


def test_a_stamp_is_a_word_for_urls_and_keys_and_each_is_later():
    stamps = [new_rollout_id() for _ in range(100)]
    assert all(re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z", stamp) for stamp in stamps)
    assert stamps == sorted(stamps)


def test_creates_with_stamp_and_cause(read):
    body = sent(read(MANIFEST))
    assert body["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": STAMP}
    assert body["metadata"]["annotations"] == {"kubernetes.io/change-cause": "deploy acme/web:1"}
    assert "replicas" not in body["spec"]
    assert "labels" not in body["metadata"]


def test_annotations_of_the_manifest_are_kept(read):
    manifest = changed("  name: web\n", "  name: web\n  annotations: {team: a}\n")
    manifest = manifest.replace("    metadata:\n", "    metadata:\n      annotations: {scrape: 'yes'}\n")
    body = sent(read(manifest), cause="tests passed")
    assert body["metadata"]["annotations"] == {"team": "a", "kubernetes.io/change-cause": "tests passed"}
    assert body["spec"]["template"]["metadata"]["annotations"] == {"scrape": "yes", "auto-deployer/restartedAt": STAMP}


def test_a_template_without_metadata_is_stamped_too(read):
    manifest = changed("    metadata:\n      labels:\n        app: web\n", "")
    assert sent(read(manifest))["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": STAMP}


def test_a_patch_replaces_the_spec_but_for_replicas_that_nobody_set(read):
    spec = sent(read(MANIFEST), live())["spec"]
    assert spec["$patch"] == "replace"
    assert spec["replicas"] == 5
    assert sent(read(changed("spec:\n  sel", "spec:\n  replicas: 2\n  sel")), live())["spec"]["replicas"] == 2
    assert sent(read(changed("spec:\n  sel", "spec:\n  replicas: 0\n  sel")), live())["spec"]["replicas"] == 0


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
def test_an_image_of_the_same_repository_is_put_in_as_it_was_written(read, written, image):
    body = sent(read(changed("acme/web:1", written)), image=image)
    assert container(body)["image"] == image
    assert body["metadata"]["annotations"]["kubernetes.io/change-cause"] == f"deploy {image}"


@pytest.mark.parametrize(
    ("image", "refusal", "words"),
    [
        ("acme/api:1", OtherImage, "doesn't run docker.io/acme/api; it may get an image of docker.io/acme/web"),
        ("ghcr.io/acme/web:1", OtherImage, "doesn't run ghcr.io/acme/web"),
        ("docker.io.evil.example/acme/web:1", OtherImage, "it may get an image of docker.io/acme/web"),
        ("", BadRequest, "is no image"),
        ("acme/web", BadRequest, "has neither tag nor digest"),
        ("acme/web:", BadRequest, "is no image"),
        ("acme/web :2", BadRequest, "is no image"),
    ],
)
def test_another_image_is_refused(read, image, refusal, words):
    for there in (None, live()):
        with pytest.raises(refusal) as refused:
            sent(read(MANIFEST), there, image=image)
        assert words in str(refused.value)


def test_every_container_with_the_repository_gets_the_image(read):
    more = "        - {name: worker, image: 'docker.io/acme/web:0'}\n        - {name: proxy, image: envoy}\n"
    manifest = read(MANIFEST + more + "      initContainers: [{name: migrate, image: acme/web}]\n")
    body = sent(manifest, image="acme/web:2")
    assert [container(body, n)["image"] for n in range(3)] == ["acme/web:2", "acme/web:2", "envoy"]
    assert container(body, of="initContainers")["image"] == "acme/web:2"
    # The manifest itself, which is kept, has not changed: a signal without an image gets the manifest's.
    assert container(sent(manifest))["image"] == "acme/web:1"


# Without spec


def test_a_manifest_without_spec_only_stamps(read):
    body = sent(read(WITHOUT_SPEC), live(), cause="nightly")
    assert body["spec"]["template"]["metadata"]["annotations"]["auto-deployer/restartedAt"] == STAMP
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


def test_a_rollout_is_about_the_image_that_was_asked_for():
    template = {"spec": {"containers": [{"image": "envoy:1"}, {"image": "acme/web:2"}]}}
    assert image_of(template, "acme/web:2") == "acme/web:2"
    assert image_of(template, None) == "envoy:1"


# The way back

FORMER = {
    "metadata": {
        "creationTimestamp": None,
        "labels": {"app": "web"},
        "annotations": {"scrape": "yes", "auto-deployer/restartedAt": "20261121T201503.123456Z"},
    },
    "spec": {
        "initContainers": [{"name": "migrate", "image": "acme/web:latest"}],
        "containers": [
            {"name": "web", "image": "acme/web:latest", "env": [{"name": "A", "value": "1"}]},
            {"name": "proxy", "image": "envoy:1"},
        ],
    },
}
DIGESTS = {"web": DIGEST, "migrate": DIGEST}


def rolled_back(manifest, former=FORMER, digests=DIGESTS):
    return build_rollback(manifest, former, digests, 6, STAMP, "rollback to revision 6", live())


def images(template):
    containers = [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]
    return {each["name"]: each["image"] for each in containers}


PINNED = {"web": f"acme/web@{DIGEST}", "migrate": f"acme/web@{DIGEST}", "proxy": "envoy:1"}
UNPINNED_IMAGES = {"web": "acme/web:latest", "migrate": "acme/web:latest"}


@pytest.mark.parametrize("content", [MANIFEST, WITHOUT_SPEC])
def test_a_rollback_brings_the_former_template_back_under_a_new_stamp(read, content):
    before = copy.deepcopy(FORMER)
    body = rolled_back(read(content))
    assert body["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "rollback to revision 6",
        "auto-deployer/rolled-back-to": "6",
    }
    template = body["spec"]["template"]
    assert template["$patch"] == "replace"
    assert template["metadata"]["labels"] == {"app": "web"}
    assert template["metadata"]["annotations"].items() >= {"scrape": "yes", "auto-deployer/restartedAt": STAMP}.items()
    assert "creationTimestamp" not in template["metadata"]
    assert template["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    assert images(template) == PINNED
    assert "replicas" not in body["spec"]
    assert before == FORMER


def test_only_where_no_manifest_says_which_images_are_meant_they_are_noted(read):
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
        build_rollback(read(MANIFEST), FORMER, DIGESTS, 6, STAMP, "rollback to revision 6", None)


def restored(read):
    """Return the live Deployment after a rollback."""
    template = rolled_back(read(WITHOUT_SPEC))["spec"]["template"]
    return {"spec": {"replicas": 2, "template": template}}


def test_the_next_signal_without_an_image_puts_the_former_names_back(read):
    body = sent(read(WITHOUT_SPEC), restored(read))
    assert body["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": STAMP, UNPINNED: None}
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


def test_a_container_that_is_gone_is_not_brought_back_by_its_name(read):
    after = restored(read)
    after["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
    body = sent(read(WITHOUT_SPEC), after)
    assert images({"spec": {"containers": [], **body["spec"]["template"]["spec"]}}) == {"migrate": "acme/web:latest"}


@pytest.mark.parametrize("nonsense", ["", "nonsense", "[]", "3", '{"web": 3}'])
def test_somebody_spoils_the_note(read, nonsense):
    after = restored(read)
    after["spec"]["template"]["metadata"]["annotations"][UNPINNED] = nonsense
    body = sent(read(WITHOUT_SPEC), after)
    assert body["spec"]["template"]["metadata"]["annotations"] == {"auto-deployer/restartedAt": STAMP, UNPINNED: None}
    assert not body["spec"]["template"]["spec"]
    rolled_back(read(WITHOUT_SPEC), after["spec"]["template"])


def test_pinning_names_the_containers_that_have_a_digest_and_changes_nothing_else():
    before = copy.deepcopy(FORMER)
    assert images(pinned(FORMER, DIGESTS | {"gone": DIGEST})) == PINNED
    assert pinned(FORMER, {}) == FORMER == before


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {"auto-deployer/restartedAt": STAMP},
        {"auto-deployer/restartedAt": STAMP, UNPINNED: '{"web": "acme/web:latest"}'},
    ],
)
def test_templates_that_differ_in_what_this_service_notes_are_the_same(annotations):
    metadata = {"labels": {"app": "web"}} | ({} if annotations is None else {"annotations": annotations})
    bare = without_own_annotations({"metadata": metadata, "spec": FORMER["spec"]})
    assert bare == without_own_annotations({"metadata": {"labels": {"app": "web"}}, "spec": FORMER["spec"]})
    assert bare != without_own_annotations(FORMER)
    assert without_own_annotations(FORMER)["metadata"]["annotations"] == {"scrape": "yes"}
