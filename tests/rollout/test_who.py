"""Who sent a signal, and where the sender's run can be seen: in answers, the history, Events and messages."""

import json

import pytest

from manifest.annotations import RESTARTED_AT, SIGNAL
from manifest.pod_template import new_rollout_id
from tests.conftest import deployment
from tests.rollout.helpers import id_of, listed, records, set_image, wait_for_records
from tests.service import wait_for

RUN = "https://ci.example.com/runs/15?attempt=2#log"


@pytest.fixture
def service(notifying):
    return notifying


def test_a_password_is_named_by_its_file(service, cluster):
    service.password("web", "only-for-web-0123456")
    answer = service.deploy(link=RUN)
    assert (answer.json()["by"], answer.json()["link"]) == ("password default", RUN)
    answer = service.deploy(pw="only-for-web-0123456")
    assert (answer.json()["by"], answer.json()["link"]) == ("password web", None)
    service.deploy(image="acme/web:2")
    back = service.roll_back(link=RUN)
    assert (back.json()["by"], back.json()["link"], back.json()["rolled_back_to"]) == ("password default", RUN, 2)
    told = [(each["by"], each["link"], each["rolled_back_to"]) for each in back.json()["history"]]
    assert told == [
        ("password default", RUN, 2),
        ("password default", None, None),
        ("password web", None, None),
        ("password default", RUN, None),
    ]


def test_the_text_the_summary_the_events_and_the_message_say_it(service, cluster, chat):
    rollout_id = service.deploy(link=RUN).json()["id"]
    assert f"sent by password default from {RUN}" in service.show(accept="text/plain").text.splitlines()
    row = f'| sent by | <a href="{RUN}">password default</a> |'
    assert row in service.show(accept="text/markdown").text.splitlines()
    wait_for(lambda: chat.about(cluster.namespace))
    (message,) = chat.about(cluster.namespace)
    first, *_, last = message["message"].splitlines()
    assert (first.endswith(f"id {rollout_id} (sent by password default)"), last) == (True, RUN)
    cluster.wait_for(lambda: len(_ours(cluster)) == 2)
    started, ended = _ours(cluster)
    assert started == f"deploy acme/web:1 ({rollout_id}), sent by password default"
    assert ended.endswith("(sent by password default)")


def _ours(cluster):
    events = [each for each in listed(cluster, "events") if each["source"].get("component") == "auto-deployer"]
    return [each["message"] for each in sorted(events, key=lambda each: each["reason"])]


def test_of_the_rollout_of_another_client_it_is_not_known(service, cluster):
    service.deploy(link=RUN)
    wait_for_records(cluster, 1, told=True)
    set_image(cluster, "acme/web:2")
    shown = service.show(wait=20).json()
    assert (shown["image"], shown["by"], shown["link"]) == ("acme/web:2", None, None)


def test_of_an_automatic_rollback_it_is_not_known(service, cluster):
    service.deploy(link=RUN)
    service.deploy(image="acme/web:missing", rollback_on_failure=True, link=RUN)
    back = service.show(wait=20).json()
    assert (back["rolled_back_to"], back["by"], back["link"]) == (1, None, None)


@pytest.mark.simulated_only
@pytest.mark.parametrize("link", ["javascript:alert(1)", "http://x", True, 3, None, ["https://x"]])
def test_a_note_that_another_client_has_spoiled_is_not_believed(replica, cluster, link):
    replica.configure("web", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    live = deployment()
    rollout_id = new_rollout_id()
    live["spec"]["template"]["metadata"]["annotations"] = {RESTARTED_AT: rollout_id}
    live["metadata"]["annotations"] = {SIGNAL: json.dumps({"id": rollout_id, "link": link, "by": link, "key": link})}
    cluster.create(live)
    shown = replica.show(wait=20)
    assert (shown.status, shown.json()["link"]) == (200, None)
    assert id_of(cluster.get()) == records(cluster)[0]["rollout"]["id"]
    assert replica.show(id=rollout_id).status == 200
