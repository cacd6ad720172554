"""Random requests: without a right password none of them reaches the cluster, and no answer is a 5xx."""

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollout.monitor import Monitor
from tests.conftest import InProcess
from tests.service import PASSWORD

pytestmark = [
    pytest.mark.simulated_only,
    # Threads of the application draw random numbers while a test runs.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]
thorough = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,  # The same inputs in every run, so that only a change of the code can make a test fail.
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

text = st.text(st.characters(), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))
names = st.sampled_from(["pw", "data", "image", "cause", "dry_run", "wait", "revision", "rollback_on_failure", "x"])
fields = st.dictionaries(names, values | st.sampled_from(["acme/web:1", True, "", PASSWORD[:-1]]), max_size=6)
wrapped = st.one_of(
    fields.map(json.dumps),
    fields.map(lambda inner: json.dumps({"data": inner})),
    fields.map(lambda inner: json.dumps({"data": json.dumps(inner)})),
    fields.map(lambda inner: f'{{ "data": "{json.dumps(inner)}" }}'),
    fields.map(lambda inner: json.dumps(inner).replace('"', '\\"')).map(lambda inner: f'{{"data":"{inner}"}}'),
    values.map(json.dumps),
)


@st.composite
def damaged(draw):
    """Remove, double or replace pieces of a body that was nearly right."""
    body = draw(wrapped).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 10)))
        piece = draw(
            st.binary(max_size=5) | st.sampled_from([b"", b'"', b"{", b"}", b"\\", b"\x00", body[start:end] * 2])
        )
        body = body[:start] + piece + body[end:]
    return body


bodies = st.binary(max_size=200) | wrapped.map(lambda body: body.encode("utf-8", "surrogatepass")) | damaged()
headers = st.one_of(
    st.just({}),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40).map(
        lambda given: {"Authorization": given}
    ),
    st.binary(max_size=40).map(lambda given: {"Authorization": "Basic " + base64.b64encode(given).decode()}),
    st.binary(max_size=40).map(lambda given: {"Authorization": "Bearer " + given.hex()}),
)
paths = st.sampled_from(["/deployment", "/deployment/web", "/deployment/nothing", "/deployment/web/rollback"])


@pytest.fixture(scope="module")
def quiet_client(admin, tmp_path_factory):
    """Make an application that asks the cluster only when it gets a request.

    Without the thread that looks for unfinished rollouts, since that asks at its own times.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "resume", lambda *arguments: None)
        return InProcess(tmp_path_factory.mktemp("quiet"), KUBECONFIG=str(admin.kubeconfig))


@pytest.fixture
def client(quiet_client, cluster):
    quiet_client.reset(cluster.namespace)
    return quiet_client


def test_a_body_with_a_right_password_reaches_the_cluster(client, cluster):
    # Otherwise the next two tests would prove nothing.
    assert client.signal(dry_run=True).status == 200
    assert [each.method for each in cluster.requests] == ["GET", "POST"]


@thorough
@given(path=paths, body=bodies, headers=headers, accept=st.sampled_from(["*/*", "application/json"]))
def test_no_body_without_a_right_password_reaches_the_cluster(client, cluster, path, body, headers, accept):
    answer = client.ask("POST", path, body, headers | {"Accept": accept})
    assert 400 <= answer.status < 500
    assert cluster.requests == []


@thorough
@given(path=st.text(st.characters(exclude_characters="?#"), max_size=20), headers=headers)
def test_no_path_without_a_right_password_reaches_the_cluster(client, cluster, path, headers):
    for method, url in (("GET", f"/check/{path}"), ("POST", f"/deployment/{path}"), ("GET", f"/deployment/{path}")):
        answer = client.ask(method, url, b"{}" if method == "POST" else None, headers)
        assert 300 <= answer.status < 500
    assert cluster.requests == []


@thorough
@given(rest=fields, accept=st.sampled_from(["*/*", "application/json"]))
def test_no_field_beside_a_right_password_is_answered_with_a_5xx(client, cluster, rest, accept):
    # Without `wait`, which would hold the answer, and always as a dry run.
    rest = {name: value for name, value in rest.items() if name not in ("wait", "data")} | {"dry_run": True}
    answer = client.ask("POST", "/deployment", rest | {"pw": PASSWORD}, {"Accept": accept})
    assert answer.status < 500
    assert cluster.get("web") is None
