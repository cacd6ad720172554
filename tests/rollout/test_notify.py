"""Notifications: what they say, when they are sent, and that no URL of the chat shows anywhere."""

import json
import re
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from rollout.notify import Notifier
from tests.conftest import deployment
from tests.rollout.helpers import CONFIG_MAP, quiet_client, records
from tests.service import wait_for

TOKEN = "chat-token-0123456789"


@pytest.fixture(scope="module")
def urls(chat, tmp_path_factory):
    file = tmp_path_factory.mktemp("chat") / "urls"
    write(file, f"json://user:{TOKEN}@127.0.0.1:{chat.port}/{TOKEN}")
    return file


def write(file, *urls):
    file.write_text("".join(f"{url}\n" for url in ("# our chats", "", *urls)))


@pytest.fixture
def service(services, urls, chat, cluster):
    """Serve without settling time, and notify the chat."""
    service = services(SETTLE_SECONDS="0", NOTIFY_URLS_FILE=str(urls))
    service.reset(cluster.namespace)
    write(urls, f"json://user:{TOKEN}@127.0.0.1:{chat.port}/{TOKEN}")
    return service


def received(chat, cluster, number):
    """Wait for so many messages; return each as title and text in one."""
    messages = wait_for(lambda: (found := chat.about(cluster.namespace)) and len(found) >= number and found, 15)
    assert len(messages) == number
    return [f"{each['title']}\n{each['message']}" for each in messages]


def is_settled(service):
    return "auto_deployer_rollouts_followed 0.0" in service.get("/metrics").text


def test_one_message_says_that_a_rollout_works(service, chat, cluster):
    assert service.deploy(image="acme/web:2", cause="build 7 of main").status == 200
    wait_for(lambda: is_settled(service))
    (message,) = received(chat, cluster, 1)
    for part in ("web", cluster.namespace, "complete", "revision 1", "acme/web:2", "build 7 of main"):
        assert part in message
    assert re.search(r"\b\d+ ?s\b", message)
    assert [each["type"] for each in chat.about(cluster.namespace)] == ["success"]


def test_a_message_about_a_failure_has_its_problem_and_the_rollback(service, chat, cluster):
    service.deploy()
    received(chat, cluster, 1)
    answer = service.deploy(image="acme/web:missing", cause="build 8", rollback_on_failure=True)
    assert answer.status == 424
    assert service.show(wait=True).status == 200
    wait_for(lambda: is_settled(service))
    messages = received(chat, cluster, 3)
    (failed,) = [each for each in messages if "failed" in each.splitlines()[0]]
    problem = answer.json()["causes"][0]
    for part in ("web", "revision 2", "acme/web:missing", "build 8", problem["pod"], problem["reason"]):
        assert part in failed
    assert "rolled back to revision 1" in failed
    assert re.search(r"\b\d+ ?s\b", failed)
    assert sum("rollback to revision 1" in each for each in messages) == 1
    assert sorted(each["type"] for each in chat.about(cluster.namespace)) == ["failure", "success", "success"]


def test_no_message_says_that_a_rollout_was_superseded(service, chat, cluster):
    service.deploy(image="acme/web:unready", wait=False)
    assert service.deploy().status == 200
    wait_for(lambda: is_settled(service))
    (message,) = received(chat, cluster, 1)
    assert "complete" in message


def test_a_refused_message_is_sent_again_and_arrives_once(admin, urls, chat, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("rollout.notify.MIN_PAUSE_SECONDS", 0.1)
    write(urls, f"json://user:{TOKEN}@127.0.0.1:{chat.port}/{TOKEN}")
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0", NOTIFY_URLS_FILE=str(urls))
    client.reset(cluster.namespace)
    chat.refusals = 1
    assert client.deploy().status == 200
    received(chat, cluster, 1)
    assert chat.refusals == 0
    wait_for(lambda: is_settled(client))
    assert len(chat.about(cluster.namespace)) == 1


@pytest.mark.simulated_only
def test_a_message_is_sent_after_a_restart_if_the_chat_was_away(service, chat, cluster):
    chat.close()
    try:
        assert service.deploy(image="acme/web:missing").status == 424
        service.kill()
    finally:
        chat.open()
    assert chat.about(cluster.namespace) == []
    # A process claims a message for a minute; only after that another process sends it.
    (record,) = records(cluster)
    assert record["told"] is False
    finished = datetime.now(UTC) - timedelta(minutes=2)
    record["claimed_at"] = record["rollout"]["finished_at"] = finished.isoformat()
    record["rollout"]["started_at"] = (finished - timedelta(seconds=42)).isoformat()
    data = {record["rollout"]["id"]: json.dumps(record)}
    cluster.patch({"data": data}, CONFIG_MAP, "configmaps")
    service.start()
    (message,) = received(chat, cluster, 1)
    assert "failed" in message
    assert "42 s" in message
    cluster.wait_for(lambda: records(cluster)[0]["told"])
    assert service.show().status == 424
    assert len(chat.about(cluster.namespace)) == 1


def test_a_chat_that_never_answers_delays_nothing(service, urls, cluster):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write(urls, f"json://{TOKEN}@127.0.0.1:{silent.getsockname()[1]}/")
        started = time.monotonic()
        assert service.deploy().status == 200
        failed = service.deploy(image="acme/web:missing", rollback_on_failure=True)
        assert (failed.status, failed.json()["rolled_back_to"]) == (424, 1)
        assert service.show(wait=True).status == 200
        assert time.monotonic() - started < 10
        assert [each["phase"] for each in service.show().json()["history"]] == ["complete", "failed", "complete"]


@pytest.mark.parametrize(
    "content", [None, "", "nonsense", f"nonsense://{TOKEN}", b"\xff\xfe", f"json://{TOKEN}@127.0.0.1:1/"]
)
def test_urls_that_cannot_be_used_fail_nothing_and_are_not_shown(service, urls, cluster, content):
    urls.unlink() if content is None else urls.write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = service.deploy()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    assert TOKEN not in answer.text


def test_urls_are_never_logged_where_they_fail(urls, caplog, monkeypatch):
    monkeypatch.setattr("rollout.notify.MIN_PAUSE_SECONDS", 0)
    caplog.set_level("INFO")
    write(urls, f"json://{TOKEN}@127.0.0.1:1/{TOKEN}", f"nonsense://{TOKEN}", f"https://{TOKEN}:{TOKEN}@[")
    sent = Notifier(urls, urls.parent).send("web in default: failed", "failed: web does not start", "web", failed=True)
    assert sent is False
    assert "could not be delivered" in caplog.text
    assert TOKEN not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_a_url_is_never_shown(service, chat, cluster):
    """Stand last in this file, since the log has all that was sent before, and all that could not be sent."""
    service.configure("web", deployment(image="acme/web:missing"))
    shown = [service.deploy().text, service.show(accept="text/plain").text, service.get("/metrics").text]
    received(chat, cluster, 1)
    for each in (*shown, "\n".join(service.lines), str(cluster.get(CONFIG_MAP, "configmaps"))):
        assert TOKEN not in each
        assert "json://" not in each
