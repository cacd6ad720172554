"""The log lines of a diagnosis, as a real node answered for them."""

import json

import pytest

from errors import BadRequest
from rollout.diagnosis import diagnose
from rollout.record import foreign_record
from settings import Settings
from tests.rollout.cases import RECORDINGS, kubelet, snapshot_of, start_of


def logs_of(name):
    """Return what was recorded, as pod/container/instance -> text, or status and body."""
    return json.loads((RECORDINGS / "kubelet" / f"{name}.json").read_text())["logs"]


class Node:
    """Answer for the API server with the events of a snapshot, and with logs as they were recorded."""

    def __init__(self, found, logs):
        self._events, self._logs, self.asked = found["events"], logs, []

    def pod_events(self, namespace, pod):
        return [each for each in self._events if each["involvedObject"]["name"] == pod]

    def read_log(self, namespace, pod, container, previous, lines):
        instance = "previous" if previous else "present"
        self.asked.append(instance)
        log = self._logs[f"{pod}/{container}/{instance}"]
        if not isinstance(log, str):
            raise BadRequest(log["body"]["message"])
        return log.splitlines()[-lines:]


def diagnosed(name, index, logs=None, **settings):
    """Diagnose at a snapshot; return the problems, and which instances' logs were asked for."""
    found = kubelet(name)[index]
    node, record = Node(found, logs or logs_of(name)), foreign_record(found["deployment"], "web-1", start_of(found))
    return diagnose(node, record, snapshot_of(found), Settings(**settings)), node.asked


@pytest.mark.parametrize(
    ("name", "index", "last_line", "asked"),
    [
        # It has ended: the present instance is the one that crashed.
        ("crash", 9, "KeyError: DATABASE_URL", ["present"]),
        # It waits to be started again: the previous one is asked for, and its log is gone.
        ("crash", 10, "KeyError: DATABASE_URL", ["previous", "present"]),
        ("crash-late", 8, "FATAL: lost the database", ["present"]),
        ("exit-zero", 5, "done", ["present"]),
        ("oom", 8, "eating", ["present"]),
        ("init-crash", 7, "KeyError: DATABASE_URL", ["present"]),
        ("moved-tag", 8, "the broken build behind the same tag", ["present"]),
        # It runs again.
        ("liveness", 9, "serving v1", ["previous"]),
        ("startup-probe", 7, "serving v1", ["previous"]),
    ],
)
def test_the_log_of_the_instance_that_crashed(name, index, last_line, asked):
    (problem,), requests = diagnosed(name, index)
    assert (problem.logs[-1], requests) == (last_line, asked)
    assert not any("unable to retrieve" in line for line in problem.logs)


@pytest.mark.parametrize("name", ["start-error", "image-missing", "secret-missing", "non-root", "unready"])
def test_no_log_is_asked_for_where_no_program_has_ended(name):
    (problem,), requests = diagnosed(name, -1)
    assert (problem.logs, requests) == ((), [])


@pytest.mark.parametrize(
    ("present", "previous", "lines"),
    [
        ("", "older\n", ("no output",)),
        ("unable to retrieve container logs for containerd://6ee2", "older\n", ("older",)),
        ("unable to retrieve container logs for containerd://6ee2", "", ("no output",)),
        ("unable to retrieve container logs for containerd://6ee2", {"body": {"message": "not found"}}, ()),
        ({"body": {"message": "not found"}}, {"body": {"message": "not found"}}, ()),
        # A program may say so itself, among other lines.
        ("start\nunable to retrieve container logs for x\n", "", ("start", "unable to retrieve container logs for x")),
    ],
)
def test_a_sentence_of_the_kubelet_is_no_log(present, previous, lines):
    pod = "web-7d6897ffd8-9kbh8/web"
    logs = {f"{pod}/present": present, f"{pod}/previous": previous}
    (problem,), _ = diagnosed("crash", 9, logs)
    assert problem.logs == lines


def test_no_log_is_asked_for_where_none_is_wanted():
    (problem,), requests = diagnosed("crash", 9, log_tail_lines="0")
    assert (problem.logs, requests) == ((), [])
