"""A message of 400 kB without a space is judged and written in a moment: no pattern goes over it more than once."""

import threading

import pytest

from rollout.model import Phase
from rollout.record import foreign_record, truncated
from rollout.wording import as_line, as_markdown, as_message, as_text
from tests.rollout.cases import ENDED, Case, condition, edit, exited, running_unready, starting, waiting

MAX_SECONDS = 5
LENGTH = 400_000
MESSAGES = ["x", '"', "a/", "@", "a-", "not ", "Failed to pull image ", "denied", "[app", "`*", "429 ", "\N{BALLOON}"]


def long_message(piece):
    return piece * (LENGTH // len(piece))


def cannot_be_pulled(message):
    case = starting("ErrImagePull", message)
    for pod in case.pods:
        case.warn(pod, "Failed", message)
    return case


def cannot_be_created(message):
    case = starting("CreateContainerError", message)
    for pod in case.pods:
        case.warn(pod, "Failed", message)
    return case


def unready(message):
    case = running_unready()
    for pod in case.pods:
        condition(pod, "Ready", message=f"containers with unready status: [app]{message}")
        case.warn(pod, "Unhealthy", message)
    return case


def killed(message):
    case = unready(message)
    for pod in case.pods:
        edit(pod, state=waiting("CrashLoopBackOff", message), lastState=exited(1), restartCount=2)
        case.events[-1]["involvedObject"]["fieldPath"] = "spec.containers{app}"
    return case


def refused(message):
    case = Case("quota-exceeded")
    condition(case.replicaset, "ReplicaFailure", message=message)
    return case


def in_time(call):
    """Return what a call returns, in a thread that may take 5 s."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    assert found, "it takes too long, or raises"
    return found[0]


@pytest.mark.parametrize("piece", MESSAGES)
@pytest.mark.parametrize("make", [cannot_be_pulled, cannot_be_created, unready, killed, refused])
def test_a_long_message_without_a_space(make, piece):
    case = make(long_message(piece))
    verdict = in_time(case.verdict)
    assert verdict.phase in (Phase.PROGRESSING, Phase.FAILED)
    assert verdict.problems
    record = foreign_record(case.deployment, "web-1", case.started)
    record = record.replace(rollout=verdict.of(record.rollout).replace(finished_at=ENDED))
    for write in (as_text, as_line, lambda rollout: as_markdown(rollout, {}, "")):
        assert in_time(lambda write=write: write(record.rollout))
    assert in_time(lambda: as_message(truncated(record)))
