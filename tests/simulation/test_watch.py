"""Watches, lists in pages, and what goes wrong on the way."""

import http.client
import json
import time

import pytest
from kubernetes import client

from tests.simulation.conftest import DEPLOYMENTS, PODS, Follower, Http, complete, deployment, play


def open_watches(cluster):
    return cluster.api.store.watches


def test_watch(cluster, api):
    api.create_namespaced_deployment("default", deployment("before", replicas=0))
    version = api.list_namespaced_deployment("default").metadata.resource_version
    follower = Follower(api, resource_version=version, timeout_seconds=2, field_selector="metadata.name=web")
    for name in ("other", "web"):
        cluster.create("deployments", "default", deployment(name, replicas=0))
        complete(cluster, name)
    cluster.delete("deployments", "default", "web")
    follower.join(5)
    kinds = [kind for kind, _ in follower.seen]
    assert {name for _, name in follower.seen} == {"web"} and follower.error is None
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("ADDED", "DELETED", {"MODIFIED"})
    assert not open_watches(cluster)


def test_a_watcher_that_leaves_is_noticed(cluster):
    http = Http(cluster)
    http.connection.request("GET", DEPLOYMENTS + "?watch=1")
    assert http.connection.getresponse().status == 200
    cluster.wait_for(lambda: open_watches(cluster))
    http.connection.close()
    cluster.wait_for(lambda: not open_watches(cluster))


def test_history_that_has_expired(cluster, api):
    version = api.list_namespaced_deployment("default").metadata.resource_version
    cluster.expire_history()
    follower = Follower(api, resource_version=version, timeout_seconds=2)
    follower.join(5)
    assert isinstance(follower.error, client.ApiException) and follower.error.status == 410
    fresh = api.list_namespaced_deployment("default").metadata.resource_version
    assert int(fresh) > int(version)


def pages(http, query="", path=DEPLOYMENTS):
    """Yield the pages of a list."""
    token = ""
    while token is not None:
        status, page = http("GET", f"{path}?limit=2{query}" + (f"&continue={token}" if token else ""))
        assert status == 200, page
        yield page
        token = page["metadata"].get("continue")


def names(page):
    return [item["metadata"]["name"] for item in page["items"]]


def test_a_list_comes_in_pages_of_one_version(cluster):
    for n in range(5):
        play(cluster, f"web-{n}", "acme/web:1", replicas=0)
    seen, left, versions = [], [], set()
    for page in pages(Http(cluster)):
        seen.append(names(page))
        left.append(page["metadata"].get("remainingItemCount"))
        versions.add(page["metadata"]["resourceVersion"])
        # What changes in between shows in none of the pages.
        cluster.delete("deployments", "default", f"web-{5 - len(seen)}")
        play(cluster, f"web-new-{len(seen)}", "acme/web:1", replicas=0)
    assert seen == [["web-0", "web-1"], ["web-2", "web-3"], ["web-4"]]
    assert (left, len(versions)) == ([3, 1, None], 1)
    # How many are left of a selection isn't said.
    (first, *_) = pages(Http(cluster), "&fieldSelector=metadata.name%3Dweb-0")
    assert names(first) == ["web-0"] and "remainingItemCount" not in first["metadata"]


def test_a_page_that_has_expired_is_a_410_with_a_token_for_the_rest(cluster):
    for n in range(4):
        play(cluster, f"web-{n}", "acme/web:1", replicas=0)
    http = Http(cluster)
    token = next(pages(http))["metadata"]["continue"]
    cluster.expire_history()
    play(cluster, "web-4", "acme/web:1", replicas=0)
    status, answer = http("GET", f"{DEPLOYMENTS}?limit=2&continue={token}")
    assert (status, answer["reason"]) == (410, "Expired")
    assert answer["message"].startswith("The provided continue parameter is too old to display a consistent list")
    rest = http("GET", f"{DEPLOYMENTS}?limit=500&continue={answer['metadata']['continue']}")[1]
    assert names(rest) == ["web-2", "web-3", "web-4"]
    assert http("GET", f"{DEPLOYMENTS}?limit=2&continue=nonsense")[0] == 400


def lines(cluster, query):
    """Return the events of a watch, to its end."""
    http = Http(cluster)
    http.connection.request("GET", f"{DEPLOYMENTS}?watch=true&{query}")
    return [json.loads(line) for line in http.connection.getresponse().read().splitlines()]


def test_bookmarks_come_now_and_then_and_before_the_end(cluster):
    play(cluster, "web", "acme/web:1", replicas=0)
    complete(cluster, "web")
    begun, version = time.monotonic(), str(cluster.api.store.version)
    (bookmark,) = lines(cluster, f"resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=3")
    assert bookmark == {
        "type": "BOOKMARK",
        "object": {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"resourceVersion": version}},
    }
    assert 2.9 < time.monotonic() - begun < 4
    cluster.bookmark_seconds = 0.2
    regular = lines(cluster, f"resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=1")
    assert 3 <= len(regular) <= 5 and {event["type"] for event in regular} == {"BOOKMARK"}
    assert lines(cluster, f"resourceVersion={version}&timeoutSeconds=1") == []


def test_a_watch_begins_where_a_bookmark_said(cluster):
    cluster.bookmark_seconds = 0.1
    http = Http(cluster)
    http.connection.request("GET", f"{PODS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=9")
    stream = http.connection.getresponse()
    play(cluster, "web", "acme/web:1", replicas=0)
    complete(cluster, "web")
    version = str(cluster.api.store.version)
    # No pod has changed, and still the watch has come as far as the Deployment.
    while (bookmark := json.loads(stream.readline()))["object"]["metadata"]["resourceVersion"] != version:
        assert bookmark["type"] == "BOOKMARK"
    cluster.delete("deployments", "default", "web")
    (deleted,) = lines(cluster, f"resourceVersion={version}&timeoutSeconds=1")
    assert deleted["type"] == "DELETED"
    assert int(deleted["object"]["metadata"]["resourceVersion"]) > int(version)


def test_watches_that_break_or_say_nothing(cluster, api):
    cut = Follower(api)
    cluster.wait_for(lambda: open_watches(cluster))
    play(cluster, "web", "acme/web:1", replicas=0)
    complete(cluster, "web")
    assert cut.began.wait(5)
    cluster.cut_watches()
    cut.join(5)
    assert not cut.is_alive()
    raw = Http(cluster)
    raw.connection.request("GET", DEPLOYMENTS + "?watch=1&timeoutSeconds=1")
    answer = raw.connection.getresponse()
    assert json.loads(answer.readline())["type"] == "ADDED"
    cluster.silence_watches()
    play(cluster, "more", "acme/web:1", replicas=0)
    answer.fp.raw._sock.settimeout(1.5)  # longer than timeoutSeconds: the connection is as good as dead
    with pytest.raises(TimeoutError):
        while answer.readline():
            pass


def test_requests_that_fail(cluster, api):
    play(cluster, "web", "acme/web:1", replicas=0)
    cluster.fail(2, "GET", "/deployments/web", status=500)
    for _ in range(2):
        with pytest.raises(client.ApiException) as caught:
            api.read_namespaced_deployment("web", "default")
        assert caught.value.status == 500
    assert api.read_namespaced_deployment("web", "default").metadata.name == "web"
    cluster.fail(status=429, path="/web")
    with pytest.raises(client.ApiException) as caught:
        api.read_namespaced_deployment("web", "default")
    assert caught.value.headers["Retry-After"] == "1"
    cluster.fail(drop=True)
    with pytest.raises(ConnectionError):
        Http(cluster)("GET", DEPLOYMENTS + "/web")
    cluster.fail(delay=0.2)
    begun = time.monotonic()
    api.read_namespaced_deployment("web", "default")
    assert time.monotonic() - begun >= 0.2
    other = {"metadata": {"labels": {"by": "another"}}}
    cluster.fail(method="PATCH", call=lambda: cluster.patch("deployments", "default", "web", other))
    seen = api.read_namespaced_deployment("web", "default").metadata.resource_version
    with pytest.raises(client.ApiException) as caught:
        api.patch_namespaced_deployment("web", "default", {"metadata": {"resourceVersion": seen}})
    assert caught.value.status == 409


def test_going_away_and_coming_back(cluster):
    play(cluster, "web", "acme/web:1", replicas=1)
    kept, url = Http(cluster), cluster.url
    assert kept("GET", DEPLOYMENTS + "/web")[0] == 200
    follower = Http(cluster)
    follower.connection.request("GET", DEPLOYMENTS + "?watch=1")
    stream = follower.connection.getresponse()
    cluster.stop_serving()
    with pytest.raises(ConnectionError):
        kept("GET", DEPLOYMENTS + "/web")
    with pytest.raises(ConnectionRefusedError):
        Http(cluster)("GET", DEPLOYMENTS + "/web")
    with pytest.raises(http.client.IncompleteRead):
        stream.read()
    complete(cluster, "web")  # the cluster goes on without its API
    cluster.serve_again()
    assert cluster.url == url and Http(cluster)("GET", DEPLOYMENTS + "/web")[0] == 200
