"""What changed from one pod template to another, said without any value of a variable."""

import copy

import pytest

from rollout.changes import changes

SECRET = "hunter2-hunter2"
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}, "annotations": {"auto-deployer/restartedAt": "20261122T201503.123456Z"}},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "acme/web:1",
                "command": ["serve"],
                "args": ["--port", "80"],
                "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "DATABASE_URL", "value": "postgres://a:b@db"}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}},
            }
        ]
    },
}
WITH_PROXY = copy.deepcopy(TEMPLATE)
WITH_PROXY["spec"]["containers"].append({"name": "proxy", "image": "envoy:1"})


def changed(template=TEMPLATE, **fields):
    """Return a template whose first container has other fields; None takes one away."""
    new = copy.deepcopy(template)
    container = new["spec"]["containers"][0] | fields
    new["spec"]["containers"][0] = {name: value for name, value in container.items() if value is not None}
    return new


def env(*variables):
    return [{"name": name, "value": value} for name, value in variables]


def in_pod(**fields):
    new = copy.deepcopy(TEMPLATE)
    new["spec"] |= fields
    return new


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (TEMPLATE, []),
        (changed(image="acme/web:2"), ["image: acme/web:1 -> acme/web:2"]),
        (changed(command=["serve", SECRET]), ["command changed"]),
        (changed(args=None), ["args changed"]),
        (
            changed(resources={"requests": {"cpu": "200m", "memory": "32Mi"}}),
            ["requests.cpu: 100m -> 200m", "requests.memory: none -> 32Mi", "limits.memory: 64Mi -> none"],
        ),
        (changed(resources=None), ["requests.cpu: 100m -> none", "limits.memory: 64Mi -> none"]),
        (changed(readinessProbe=None), ["readinessProbe removed"]),
        (changed(livenessProbe={"exec": {"command": ["true"]}}), ["livenessProbe added"]),
        (changed(readinessProbe={"httpGet": {"path": "/ready", "port": 80}}), ["readinessProbe changed"]),
        (changed(startupProbe={"tcpSocket": {"port": 80}}), ["startupProbe added"]),
        (
            changed(env=env(("LOG_LEVEL", "debug"), ("API_KEY", SECRET))),
            ["env API_KEY added", "env DATABASE_URL removed", "env LOG_LEVEL changed"],
        ),
        (changed(env=None), ["env DATABASE_URL removed", "env LOG_LEVEL removed"]),
        (changed(env=env(("DATABASE_URL", "postgres://a:b@db"), ("LOG_LEVEL", "info"))), []),
        (changed(imagePullPolicy="Always"), ["imagePullPolicy added"]),
        (in_pod(nodeSelector={"disk": "ssd"}), ["nodeSelector added"]),
        (
            in_pod(initContainers=[{"name": "migrate", "image": "acme/web:1"}]),
            ["container migrate is new, image acme/web:1"],
        ),
        (WITH_PROXY, ["container proxy is new, image envoy:1"]),
        (
            changed(image="acme/web:2", env=env(("DATABASE_URL", SECRET), ("LOG_LEVEL", "info"))),
            ["image: acme/web:1 -> acme/web:2", "env DATABASE_URL changed"],
        ),
    ],
)
def test_says_what_changed(new, lines):
    assert list(changes(TEMPLATE, new)) == lines


def test_a_container_that_is_gone():
    assert list(changes(WITH_PROXY, TEMPLATE)) == ["container proxy is gone"]


def test_where_there_are_several_containers_each_line_names_its_own():
    new = changed(WITH_PROXY, image="acme/web:2", command=None)
    new["spec"]["containers"][1]["image"] = "envoy:2"
    assert list(changes(WITH_PROXY, new)) == [
        "web: image: acme/web:1 -> acme/web:2",
        "web: command changed",
        "proxy: image: envoy:1 -> envoy:2",
    ]


A, B = (f"sha256:{digits}{'0' * 52}" for digits in ("c1ab35fd6ed3", "6a9cf0097460"))
MOVED = "sha256:c1ab35fd6ed3 -> sha256:6a9cf0097460"


@pytest.mark.parametrize(
    ("old_digests", "new_digests", "lines"),
    [
        ({"web": A}, {"web": B}, [f"image acme/web:1: {MOVED}"]),
        ({"web": A}, {"web": A}, []),
        # What ran isn't known, as of pods that never came up, or that ran different digests.
        ({"web": A}, {}, []),
        ({}, {"web": B}, []),
        ({"web": A}, {"other": B}, []),
    ],
)
def test_a_tag_that_was_moved(old_digests, new_digests, lines):
    assert list(changes(TEMPLATE, TEMPLATE, old_digests, new_digests)) == lines


def test_another_tag_is_one_change_whatever_its_digest():
    new = changed(image="acme/web:2")
    for digest in (A, B):
        assert changes(TEMPLATE, new, {"web": A}, {"web": digest}) == ("image: acme/web:1 -> acme/web:2",)


def test_a_moved_tag_among_other_changes():
    new = changed(command=None)
    lines = changes(TEMPLATE, new, {"web": A}, {"web": B})
    assert lines == (f"image acme/web:1: {MOVED}", "command changed")


def test_tags_that_were_moved_under_several_containers():
    before, ran = {"web": A, "proxy": A, "migrate": A}, {"web": B, "proxy": B, "migrate": B}
    assert list(changes(WITH_PROXY, WITH_PROXY, before, ran)) == [
        f"web: image acme/web:1: {MOVED}",
        f"proxy: image envoy:1: {MOVED}",
    ]
    assert list(changes(WITH_PROXY, WITH_PROXY, before, ran | {"web": A})) == [f"proxy: image envoy:1: {MOVED}"]
    with_init = in_pod(initContainers=[{"name": "migrate", "image": "acme/migrate:1"}])
    assert list(changes(with_init, with_init, before, ran | {"web": A})) == [f"migrate: image acme/migrate:1: {MOVED}"]
    # A container that is new or gone has no tag that was moved.
    assert list(changes(TEMPLATE, WITH_PROXY, before, ran | {"web": A})) == ["container proxy is new, image envoy:1"]


def test_init_containers_are_compared_too():
    old, new = (in_pod(initContainers=[{"name": "migrate", "image": f"acme/migrate:{n}"}]) for n in (1, 2))
    assert list(changes(old, new)) == ["migrate: image: acme/migrate:1 -> acme/migrate:2"]


def test_a_new_rollout_id_is_no_change():
    new = copy.deepcopy(TEMPLATE)
    new["metadata"]["annotations"]["auto-deployer/restartedAt"] = "20261122T201504.123456Z"
    assert changes(TEMPLATE, new) == ()


def test_a_pod_without_anything_but_an_image():
    bare = {"spec": {"containers": [{"name": "web", "image": "acme/web:1"}]}}
    assert changes(bare, bare) == ()
    assert "env LOG_LEVEL added" in changes(bare, TEMPLATE)


HIDING_PLACES = [
    changed(env=env(("DATABASE_URL", SECRET))),
    changed(env=[*TEMPLATE["spec"]["containers"][0]["env"], {"name": "PASSWORD", "value": SECRET}]),
    changed(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": SECRET}}}]),
    changed(envFrom=[{"secretRef": {"name": SECRET}, "prefix": SECRET}]),
    changed(command=["sh", "-c", f"serve --password {SECRET}"]),
    changed(args=["--password", SECRET]),
    changed(readinessProbe={"httpGet": {"port": 80, "httpHeaders": [{"name": "Authorization", "value": SECRET}]}}),
    changed(livenessProbe={"exec": {"command": ["check", SECRET]}}),
    changed(lifecycle={"preStop": {"exec": {"command": ["bye", SECRET]}}}),
    changed(volumeMounts=[{"name": "v", "mountPath": f"/{SECRET}"}]),
    in_pod(volumes=[{"name": "v", "csi": {"driver": "d", "volumeAttributes": {"token": SECRET}}}]),
    in_pod(imagePullSecrets=[{"name": SECRET}]),
    in_pod(initContainers=[{"name": "migrate", "image": "acme/web:1", "env": env(("PASSWORD", SECRET))}]),
    in_pod(containers=[{"name": "other", "image": "acme/web:1", "args": [SECRET], "env": env(("PASSWORD", SECRET))}]),
]


@pytest.mark.parametrize("template", HIDING_PLACES)
def test_no_value_is_ever_shown_neither_the_new_one_nor_the_old_one(template):
    for old, new in ((TEMPLATE, template), (template, TEMPLATE), (template, WITH_PROXY)):
        found = changes(old, new)
        assert found
        assert SECRET not in "\n".join(found)
        assert "postgres://" not in "\n".join(found)
