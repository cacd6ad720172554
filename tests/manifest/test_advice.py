"""What /check advises, on Deployments as the API server answers them, with its defaults."""

import copy

import pytest

from manifest.advice import advise

GOOD = {
    "name": "web",
    "image": "acme/web:1",
    "imagePullPolicy": "IfNotPresent",
    "readinessProbe": {"tcpSocket": {"port": 80}},
    "resources": {"requests": {"cpu": "10m"}},
}


def advice(min_ready_seconds=0, **fields):
    """Return what is advised on a Deployment whose second container has these fields; None takes one away."""
    container = {key: value for key, value in (copy.deepcopy(GOOD) | fields).items() if value is not None}
    spec = {"template": {"spec": {"containers": [GOOD, container]}}}
    return advise({"spec": spec | ({"minReadySeconds": min_ready_seconds} if min_ready_seconds else {})})


def test_a_good_deployment_gets_none():
    assert advice() == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"readinessProbe": None, "min_ready_seconds": 10}, "container api has no readiness probe"),
        ({"resources": {}}, "container api has no resource requests"),
        ({"resources": None}, "container api has no resource requests"),
        ({"resources": {"limits": {"cpu": "1"}}}, "container api has no resource requests"),
        ({"image": "acme/web:latest"}, "container api runs acme/web:latest with imagePullPolicy IfNotPresent"),
        ({"image": "acme/web", "imagePullPolicy": "Never"}, "container api runs acme/web with imagePullPolicy Never"),
    ],
)
def test_each_piece_of_advice(fields, words):
    (sentence,) = advice(name="api", **fields)
    assert sentence.startswith(words)


def test_without_probe_and_without_time_a_crash_takes_the_old_pods_down():
    probe, time = advice(readinessProbe=None)
    assert probe.startswith("container web has no readiness probe")
    assert time.startswith("minReadySeconds is 0")


@pytest.mark.parametrize(
    "fields",
    [
        {"image": "acme/web:latest", "imagePullPolicy": "Always"},
        # The digest says what runs.
        {"image": f"acme/web:latest@sha256:{'1' * 64}"},
        {"image": "acme/web:later"},
        # The API server takes what the kubelet will refuse.
        {"image": "Nonsense:"},
    ],
)
def test_what_needs_no_advice(fields):
    assert advice(**fields) == []
