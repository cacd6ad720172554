"""Whether a failed pull of an image may heal: the words of the registry and of the kubelet tell."""

import pytest

from rollout.model import Phase
from tests.rollout.cases import RATE_LIMITED, edit, starting

PROGRESSING, FAILED = Phase.PROGRESSING, Phase.FAILED


NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/acme/web:2": failed to resolve '
    'reference "docker.io/acme/web:2": docker.io/acme/web:2: not found'
)


DENIED = (
    'failed to resolve reference "docker.io/acme/web:2": pull access denied, repository does not exist or may require '
    "authorization: server message: insufficient_scope: authorization failed"
)


UNAUTHORIZED = (
    "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to "
    "https://ghcr.io/token?scope=repository%3Aacme%2Fweb%3Apull&service=ghcr.io: 401 Unauthorized"
)


SLOW = (
    'failed to do request: Head "https://registry-1.docker.io/v2/acme/web/manifests/2": dial tcp 44.208.254.194:443: '
    "i/o timeout"
)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize(
    ("message", "phase"),
    [
        (NOT_FOUND, FAILED),
        (DENIED, FAILED),
        (UNAUTHORIZED, FAILED),
        ("manifest unknown: manifest unknown", FAILED),
        ("unexpected status from HEAD request to https://ghcr.io/v2/acme/web/manifests/2: 403 Forbidden", FAILED),
        ("pulling from host 1.dkr.ecr.eu-west-1.amazonaws.com failed: no basic auth credentials", FAILED),
        ("Error response from daemon: denied: requested access to the resource is denied", FAILED),
        ("denied: Permission artifactregistry.repositories.downloadArtifacts denied on resource", FAILED),
        ("unauthorized: authentication required", FAILED),
        ("unauthorized: incorrect username or password", FAILED),
        ("pull access denied for acme/web, repository does not exist or may require 'docker login'", FAILED),
        ("denied: too many requests", PROGRESSING),
        ("unauthorized: you have reached your pull rate limit", PROGRESSING),
        ("403 Forbidden - Server message: toomanyrequests: rate limit exceeded", PROGRESSING),
        ("net/http: TLS handshake timeout", PROGRESSING),
        ("net/http: request canceled while waiting for connection (Client.Timeout exceeded)", PROGRESSING),
        ("dial tcp 127.0.0.1:5999: connect: connection refused", PROGRESSING),
        ("Error response from daemon: manifest for acme/web:2 not found: manifest unknown", FAILED),
        (RATE_LIMITED, PROGRESSING),
        (SLOW, PROGRESSING),
        ("dial tcp: lookup registry-1.docker.io on 10.96.0.10:53: no such host", PROGRESSING),
        ("unexpected status from HEAD request: 503 Service Unavailable", PROGRESSING),
        ("context deadline exceeded", PROGRESSING),
        ("pull QPS exceeded", PROGRESSING),
        ("x509: certificate signed by unknown authority", PROGRESSING),
    ],
)
def test_a_registry_that_refuses_is_fatal_and_one_that_is_slow_is_not(reason, message, phase):
    case = starting(reason, f'Back-off pulling image "acme/web:2": ErrImagePull: {message}')
    assert case.found() == (phase, [f"app: {reason}"])


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_can_never_be_pulled(reason):
    assert starting(reason).found() == (FAILED, [f"app: {reason}"])


@pytest.mark.parametrize(("message", "phase"), [(NOT_FOUND, FAILED), (DENIED, FAILED), (RATE_LIMITED, PROGRESSING)])
def test_an_older_kubelet_says_only_in_an_event_why(message, phase):
    case = starting("ImagePullBackOff", 'Back-off pulling image "acme/web:2"')
    assert case.found()[0] is PROGRESSING
    for pod in case.pods:
        case.warn(pod, "Failed", f'Failed to pull image "acme/web:2": {message}')
        case.warn(pod, "Failed", "Error: ErrImagePull")
    assert case.found() == (phase, ["app: ImagePullBackOff"])


def test_the_event_of_another_pod_says_nothing():
    case = starting("ImagePullBackOff", 'Back-off pulling image "acme/web:2"')
    case.warn(case.pods[0], "Failed", f'Failed to pull image "acme/web:2": {NOT_FOUND}')
    assert case.found()[0] is PROGRESSING


@pytest.mark.parametrize("name", ["acme/unauthorized", "acme/not-found", "acme/manifest-unknown", "unauthorized/web"])
@pytest.mark.parametrize(
    "message",
    [
        'failed to resolve reference "docker.io/IMAGE:2": unexpected status: 503 Service Unavailable',
        'failed to do request: Head "https://registry-1.docker.io/v2/IMAGE/manifests/2": dial tcp: i/o timeout',
    ],
)
def test_an_image_may_be_named_like_an_error(name, message):
    case = starting("ErrImagePull", message.replace("IMAGE", name))
    for pod in case.pods:
        edit(pod, image=f"{name}:2")
    assert case.found() == (PROGRESSING, ["app: ErrImagePull"])


@pytest.mark.parametrize("image", ["acme/web:1.429", "acme/http-429:2", "acme/web@sha256:" + "0429" * 16])
@pytest.mark.parametrize(
    "message",
    [
        'failed to resolve reference "docker.io/IMAGE": docker.io/IMAGE: not found',
        "unexpected status code https://ghcr.io/v2/PATH: 401 Unauthorized",
    ],
)
def test_an_image_may_be_named_like_a_rate_limit(image, message):
    path = image.replace("@", "/manifests/").replace(":2", "/manifests/2").replace(":1.429", "/manifests/1.429")
    case = starting("ErrImagePull", message.replace("IMAGE", image).replace("PATH", path))
    for pod in case.pods:
        edit(pod, image=image)
    assert case.found() == (FAILED, ["app: ErrImagePull"])
