"""The followers of a process: one for each rollout, the older ones superseded, the ended ones remembered."""

import pytest

from manifest.files import Manifest
from rollout.follower import Follower
from rollout.followers import MAX_REMEMBERED, Followers
from rollout.model import Phase
from tests.conftest import deployment
from tests.rollout.cases import record_of


def follower(number=1, generation=1, name="web", uid="one", **fields):
    """Return a follower of a rollout; the number stands in its rollout id."""
    live = deployment(name, namespace="default")
    live["metadata"] |= {"uid": uid, "generation": generation}
    manifest = Manifest(file=f"{name}.yaml", namespace="default", name=name, annotations={}, body=None)
    return Follower(None, 0, manifest, live, record_of(live, number, **fields))


def test_a_rollout_has_one_follower_however_often_it_is_added():
    followers, first = Followers(), follower()
    assert followers.add(first) is first
    assert followers.add(follower()) is first
    assert followers.get(first.key) is first
    assert not first.is_superseded


@pytest.mark.parametrize(
    ("other", "is_superseded"),
    [
        ({"generation": 3}, True),
        # Another replica may have a clock that is behind: the generation decides, and not the rollout id.
        ({"generation": 1}, False),
        ({"generation": 3, "name": "api"}, False),
        # Another Deployment of the same name counts its generations from 1 again.
        ({"generation": 3, "uid": "two"}, False),
    ],
)
def test_a_newer_rollout_of_the_same_deployment_supersedes(other, is_superseded):
    followers, older = Followers(), follower(1, generation=2)
    followers.add(older)
    followers.add(follower(2, **other))
    assert older.is_superseded == is_superseded


def test_a_follower_is_removed_and_says_whether_it_was_the_last_of_its_deployment():
    followers = Followers()
    first, second, other = follower(1), follower(2), follower(1, name="api")
    for each in (first, second, other):
        followers.add(each)
    assert [followers.remove(each) for each in (first, second, other)] == [False, True, True]
    assert followers.get(first.key) is None


@pytest.mark.parametrize(
    ("fields", "is_remembered"),
    [
        ({"phase": Phase.COMPLETE}, True),
        ({"phase": Phase.PROGRESSING}, False),
        # Its rollback is still to come.
        ({"phase": Phase.FAILED, "rollback": "pending"}, False),
        ({"phase": Phase.FAILED, "rollback": "done"}, True),
    ],
)
def test_only_a_rollout_that_has_ended_is_remembered(fields, is_remembered):
    followers, ended = Followers(), follower(**fields)
    followers.add(ended)
    assert followers.ended(ended.key) is None
    followers.remove(ended)
    assert followers.ended(ended.key) == (ended.record.rollout if is_remembered else None)


def test_the_oldest_of_too_many_ended_rollouts_are_forgotten():
    followers = Followers()
    ended = [follower(name=f"web{number}", phase=Phase.COMPLETE) for number in range(MAX_REMEMBERED + 2)]
    for each in ended:
        followers.add(each)
        followers.remove(each)
    assert [followers.ended(each.key) is None for each in ended] == [True] * 2 + [False] * MAX_REMEMBERED
