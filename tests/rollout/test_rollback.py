"""The target of a rollback: which records and ReplicaSets are one, and which are not."""

import copy

import pytest

from cluster.snapshot import Snapshot
from manifest.annotations import RESTARTED_AT, REVISION, ROLLED_BACK_TO, UNPINNED
from rollout.model import Phase, Replicas
from rollout.record import Records, new_record, newest_first
from rollout.rollback import AlreadyRolledBack, NothingToRollBackTo, choose_target
from tests.rollout.cases import rollout_id

D1, D2, D3 = ("sha256:" + each * 64 for each in "123")
ONE = Replicas(desired=1, updated=1, ready=1, available=1)
COMPLETE, FAILED, SUPERSEDED, PROGRESSING = Phase.COMPLETE, Phase.FAILED, Phase.SUPERSEDED, Phase.PROGRESSING


def template(number, image, **annotations):
    """Return a pod template; the number stands in its rollout id; None: it has no rollout id."""
    written = ({} if number is None else {RESTARTED_AT: rollout_id(number)}) | annotations
    metadata = {"labels": {"app": "web"}} | ({"annotations": written} if written else {})
    return {"metadata": metadata, "spec": {"containers": [{"name": "web", "image": image}]}}


def live_with(live_template, back=None):
    """Return a live Deployment; `back` is the revision that it was rolled back to."""
    annotations = {} if back is None else {ROLLED_BACK_TO: str(back)}
    metadata = {"name": "web", "namespace": "default", "uid": "web's", "generation": 1, "annotations": annotations}
    return {"metadata": metadata, "spec": {"replicas": 1, "template": live_template}}


def record(number, image, phase=COMPLETE, digest=None, revision=None, **annotations):
    """Return the record of a rollout; the number stands in its rollout id, and is its revision if no other is given."""
    started = new_record(live_with(template(number, image, **annotations)))
    rollout = started.rollout.replace(phase=phase, revision=revision or number, digest=digest, replicas=ONE)
    return started.replace(rollout=rollout, digests={"web": digest} if digest else {})


def ledger(*records):
    """Return records as the ledger does: the newest first."""
    found = {each.rollout.id: each for each in records}
    return Records((each, found[each]) for each in newest_first(found, found))


def replicaset(revision, of_template, uid="web's"):
    """Return the ReplicaSet of a pod template, owned by the Deployment with a uid."""
    hashed = copy.deepcopy(of_template)
    hashed["metadata"]["labels"]["pod-template-hash"] = f"hash{revision}"
    owner = {"kind": "Deployment", "name": "web", "uid": uid, "controller": True}
    annotations = {REVISION: str(revision)}
    metadata = {
        "name": f"web-{revision}",
        "uid": f"rs{revision}",
        "annotations": annotations,
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, "spec": {"replicas": 0, "template": hashed}}


def target_of(records, live_template, *replicasets, revision=None):
    """Return the target of a rollback from a live template."""
    return choose_target(records, Snapshot(live_with(live_template), list(replicasets), [], []), revision)


def refusal_of(records, live_template, *replicasets, revision=None):
    """Return why there is no target."""
    with pytest.raises(NothingToRollBackTo) as refused:
        target_of(records, live_template, *replicasets, revision=revision)
    assert refused.value.status == 409
    return str(refused.value)


# The last rollout that worked

WEB1, WEB2 = record(1, "acme/web:1"), record(2, "acme/web:2")


def test_the_newest_that_worked_before_the_one_that_failed():
    bad = record(3, "acme/web:3", FAILED)
    target = target_of(ledger(WEB1, WEB2, bad), bad.template)
    assert (target.revision, target.template, target.verified) == (2, WEB2.template, True)


def test_the_one_before_the_live_one_if_that_worked():
    assert target_of(ledger(WEB1, WEB2), WEB2.template).revision == 1


def test_the_live_rollout_may_still_progress():
    going = record(3, "acme/web:3", PROGRESSING)
    assert target_of(ledger(WEB1, going), going.template).revision == 1


@pytest.mark.parametrize("phase", [FAILED, SUPERSEDED, PROGRESSING, Phase.PAUSED])
def test_a_rollout_that_did_not_work_is_no_target(phase):
    bad, live = record(2, "acme/web:2", phase), record(3, "acme/web:3", FAILED)
    assert target_of(ledger(WEB1, bad, live), live.template).revision == 1
    assert "nothing to roll back to" in refusal_of(ledger(bad, live), live.template)


def test_a_rollout_after_the_live_one_is_no_target():
    # `kubectl rollout undo` made rollout 2 live again.
    later = record(3, "acme/web:3", FAILED)
    assert target_of(ledger(WEB1, WEB2, later), WEB2.template).revision == 1


def test_a_template_that_differs_only_in_the_rollout_id_is_no_target():
    again, failed = record(3, "acme/web:2"), record(4, "acme/web:2", FAILED)
    assert target_of(ledger(WEB1, WEB2, again), again.template).revision == 1
    assert target_of(ledger(WEB1, WEB2, again, failed), failed.template).revision == 1
    assert "nothing to roll back to" in refusal_of(ledger(WEB2, again), again.template)


def test_the_whole_template_is_compared_and_not_only_the_image():
    other = copy.deepcopy(WEB1)
    other.template["spec"]["containers"][0]["env"] = [{"name": "DATABASE_URL", "value": "x"}]
    live = record(2, "acme/web:1", FAILED)
    assert target_of(ledger(other, live), live.template).template == other.template


def test_without_a_rollout_that_worked_there_is_no_target():
    only = record(1, "acme/web:1", FAILED)
    assert "nothing to roll back to" in refusal_of(ledger(only), only.template)
    assert "nothing to roll back to" in refusal_of({}, template(1, "acme/web:1"))


# Tags that moved


def test_latest_goes_back_to_the_digest_that_worked():
    first, second = (record(n, "acme/web:latest", digest=digest) for n, digest in ((1, D1), (2, D2)))
    target = target_of(ledger(first, second), second.template)
    assert (target.revision, target.digests) == (1, {"web": D1})
    assert target.template["spec"]["containers"][0]["image"] == "acme/web:latest"


def test_latest_that_failed_goes_back_to_the_digest_that_worked():
    first, failed = record(1, "acme/web:latest", digest=D1), record(2, "acme/web:latest", FAILED)
    target = target_of(ledger(first, failed), failed.template)
    assert (target.revision, target.digests) == (1, {"web": D1})


def test_latest_with_the_same_digest_is_the_same_program():
    first, second, third = (record(n, "acme/web:latest", digest=d) for n, d in ((1, D1), (2, D2), (3, D2)))
    assert target_of(ledger(first, second, third), third.template).revision == 1
    assert "nothing to roll back to" in refusal_of(ledger(second, third), third.template)


def test_after_a_rollback_the_rollout_that_it_restored_is_no_target():
    older, first = record(1, "acme/web:1", digest=D3), record(2, "acme/web:latest", digest=D1)
    failed = record(3, "acme/web:latest", FAILED)
    restored = record(4, f"acme/web@{D1}", digest=D1, **{UNPINNED: '{"web":"acme/web:latest"}'})
    assert target_of(ledger(older, first, failed, restored), restored.template).revision == 1
    assert "nothing to roll back to" in refusal_of(ledger(first, failed, restored), restored.template)


def test_a_tag_and_the_digest_that_it_pointed_to_are_the_same_program():
    tagged, pinned = record(1, "acme/web:1", digest=D1), record(2, f"acme/web@{D1}", digest=D1)
    assert "nothing to roll back to" in refusal_of(ledger(tagged, pinned), pinned.template)


def test_an_image_with_tag_and_digest_is_the_program_of_its_digest():
    pinned = record(2, f"acme/web:1@{D1}", digest=D1)
    for before in ("acme/web:1", "acme/web:latest", f"acme/web@{D1}", f"acme/web:2@{D1}"):
        assert "nothing to roll back to" in refusal_of(ledger(record(1, before, digest=D1), pinned), pinned.template)


def test_an_image_with_tag_and_digest_that_failed_is_compared_by_what_it_carries():
    first, same = record(1, "acme/web:1", digest=D1), record(2, f"acme/web:1@{D1}", FAILED)
    assert "nothing to roll back to" in refusal_of(ledger(first, same), same.template)
    # The form that a rollback gave it is the same program too.
    assert "nothing to roll back to" in refusal_of(ledger(first), template(3, f"acme/web@{D1}"))
    assert "what runs" in refusal_of(ledger(first, same), same.template, revision=1)


def test_another_digest_under_the_same_tag_is_another_program():
    first, failed = record(1, f"acme/web:1@{D1}", digest=D1), record(2, f"acme/web:1@{D2}", FAILED)
    target = target_of(ledger(first, failed), failed.template)
    assert (target.revision, target.digests) == (1, {"web": D1})


def test_the_same_digest_in_another_repository_is_another_image():
    first, failed = record(1, "acme/web:1", digest=D1), record(2, f"other/web:1@{D1}", FAILED)
    assert target_of(ledger(first, failed), failed.template).revision == 1


def test_without_a_record_the_digest_that_an_image_carries_is_compared_too():
    first, second, live = (template(None, image) for image in ("acme/web:0", f"acme/web:1@{D1}", f"acme/web@{D1}"))
    sets = [replicaset(1, first), replicaset(2, second), replicaset(3, live)]
    assert target_of({}, live, *sets).revision == 1


# No pods


def test_a_rollout_of_no_pods_shows_nothing_and_is_nothing_to_go_back_to():
    empty, failed = record(2, "acme/web:2"), record(3, "acme/web:3", FAILED)
    empty = empty.replace(rollout=empty.rollout.replace(replicas=Replicas()))
    assert target_of(ledger(WEB1, empty, failed), failed.template).revision == 1
    assert "nothing to roll back to" in refusal_of(
        ledger(empty, failed), failed.template, replicaset(2, empty.template)
    )
    # By number it is what was asked for.
    assert target_of(ledger(WEB1, empty, failed), failed.template, revision=2).template == empty.template


# By number


def test_a_revision():
    third = record(3, "acme/web:3", digest=D3)
    target = target_of(ledger(WEB1, WEB2, third), third.template, revision=1)
    assert (target.revision, target.template, target.verified) == (1, WEB1.template, True)
    target = target_of(ledger(WEB1, WEB2, third), WEB2.template, revision=3)
    assert (target.revision, target.digests) == (3, {"web": D3})


@pytest.mark.parametrize("phase", [FAILED, SUPERSEDED])
def test_a_revision_may_be_one_that_failed(phase):
    bad = record(2, "acme/web:2", phase)
    live = record(3, "acme/web:3")
    assert target_of(ledger(WEB1, bad, live), live.template, revision=2).template == bad.template


def test_a_revision_that_is_not_recorded():
    words = refusal_of(ledger(WEB1, WEB2), WEB2.template, replicaset(7, template(None, "acme/web:7")), revision=7)
    assert "revision 7" in words
    assert "2, 1" in words


def test_the_revision_that_runs():
    assert "what runs" in refusal_of(ledger(WEB1, WEB2), WEB2.template, revision=2)
    again = record(3, "acme/web:2")
    assert "what runs" in refusal_of(ledger(WEB1, WEB2, again), again.template, revision=2)


def test_the_revision_with_the_tag_that_runs_but_another_digest():
    first, second = (record(n, "acme/web:latest", digest=digest) for n, digest in ((1, D1), (2, D2)))
    assert target_of(ledger(first, second), second.template, revision=1).digests == {"web": D1}
    assert "what runs" in refusal_of(ledger(first, second), second.template, revision=2)


# ReplicaSets that have no record

KUBECTL1, KUBECTL2 = template(None, "acme/web:1"), template(None, "acme/web:2")


def test_the_previous_replica_set_is_an_unverified_target():
    live = record(3, "acme/web:3", FAILED)
    sets = [replicaset(1, KUBECTL1), replicaset(3, live.template), replicaset(2, KUBECTL2)]
    target = target_of(ledger(live), live.template, *sets)
    assert (target.revision, target.template, target.digests, target.verified) == (2, KUBECTL2, {}, False)


def test_the_previous_replica_set_without_any_record():
    sets = [replicaset(1, KUBECTL1), replicaset(2, KUBECTL2)]
    target = target_of({}, KUBECTL2, *sets)
    assert (target.revision, target.verified) == (1, False)


def serving(revision, template, *digests):
    """Return a ReplicaSet whose pods are available, and those pods."""
    owned = replicaset(revision, template)
    owned["status"] = {"availableReplicas": len(digests)}
    statuses = [{"name": "web", "imageID": f"docker.io/acme/web@{digest}"} for digest in digests]
    reference = {"controller": True, "uid": owned["metadata"]["uid"]}
    pods = [
        {"metadata": {"ownerReferences": [reference]}, "status": {"containerStatuses": [each]}} for each in statuses
    ]
    return owned, pods


def automatic_target(live, sets, pods):
    """Return the target of an automatic rollback when nothing is recorded."""
    return choose_target({}, Snapshot(live_with(live), sets, pods, []), automatic=True)


def test_an_automatic_rollback_goes_to_the_replica_set_that_still_serves_by_its_digest():
    first, pods = serving(1, template(None, "acme/web:latest"), D1, D1)
    broken = replicaset(2, KUBECTL1)  # Another client's: it doesn't serve.
    target = automatic_target(KUBECTL2, [first, broken, replicaset(3, KUBECTL2)], pods)
    assert (target.revision, target.digests, target.verified) == (1, {"web": D1}, False)


@pytest.mark.parametrize("digests", [(), (D1, D2)])
def test_an_automatic_rollback_goes_to_no_replica_set_without_pods_or_with_mixed_digests(digests):
    first, pods = serving(1, KUBECTL1, *digests)
    with pytest.raises(NothingToRollBackTo):
        automatic_target(KUBECTL2, [first, replicaset(2, KUBECTL2)], pods)


def test_revisions_are_numbers():
    sets = [replicaset(9, KUBECTL1), replicaset(10, template(None, "acme/web:10")), replicaset(11, KUBECTL2)]
    assert target_of({}, KUBECTL2, *sets).revision == 10


def test_a_rollout_that_worked_is_preferred_to_a_newer_replica_set_without_a_record():
    live = record(3, "acme/web:3", FAILED)
    sets = [replicaset(1, WEB1.template), replicaset(2, KUBECTL2), replicaset(3, live.template)]
    target = target_of(ledger(WEB1, live), live.template, *sets)
    assert (target.revision, target.verified) == (1, True)


def test_the_replica_set_of_a_rollout_that_failed_is_no_target():
    bad, live = record(2, "acme/web:2", FAILED), record(3, "acme/web:3", FAILED)
    sets = [replicaset(2, bad.template), replicaset(3, live.template)]
    assert "nothing to roll back to" in refusal_of(ledger(bad, live), live.template, *sets)
    assert target_of(ledger(bad, live), live.template, replicaset(1, KUBECTL1), *sets).revision == 1


def test_a_replica_set_with_the_same_template_is_no_target():
    sets = [replicaset(1, KUBECTL1), replicaset(2, template(2, "acme/web:2")), replicaset(3, template(3, "acme/web:2"))]
    assert target_of({}, template(3, "acme/web:2"), *sets).revision == 1


def test_replica_sets_of_other_deployments_are_no_target():
    orphan = replicaset(1, KUBECTL1)
    del orphan["metadata"]["ownerReferences"]
    without_revision = replicaset(1, KUBECTL1)
    del without_revision["metadata"]["annotations"]
    sets = [replicaset(1, KUBECTL1, uid="another's"), orphan, without_revision, replicaset(2, KUBECTL2)]
    assert "nothing to roll back to" in refusal_of({}, KUBECTL2, *sets)


def test_while_the_live_one_has_no_replica_set_the_highest_revision_is_the_target():
    live = record(3, "acme/web:3", PROGRESSING)
    target = target_of(ledger(live), live.template, replicaset(1, KUBECTL1), replicaset(2, KUBECTL2))
    assert (target.revision, target.verified) == (2, False)


# What other clients did in between


def test_kubectl_set_image_over_one_that_worked():
    live = template(2, "acme/web:by-hand")
    assert target_of(ledger(WEB1, WEB2), live).template == WEB2.template


def test_kubectl_set_image_over_one_that_failed():
    bad = record(2, "acme/web:2", FAILED)
    assert target_of(ledger(WEB1, bad), template(2, "acme/web:by-hand")).revision == 1


def test_kubectl_set_image_to_what_once_worked():
    assert target_of(ledger(WEB1, WEB2), template(2, "acme/web:1")).revision == 2


def test_kubectl_rollout_undo_over_one_that_failed():
    # Kubernetes gives the old template a new revision; the rollout that it came from has the old one.
    bad = record(3, "acme/web:3", FAILED)
    sets = [replicaset(1, WEB1.template), replicaset(3, bad.template), replicaset(4, WEB2.template)]
    assert target_of(ledger(WEB1, WEB2, bad), WEB2.template, *sets).revision == 1
    assert "nothing to roll back to" in refusal_of(ledger(WEB2, bad), WEB2.template, *sets[1:])


def test_a_foreign_rollout_without_a_rollout_id():
    assert target_of(ledger(WEB1, WEB2), template(None, "acme/web:helm")).revision == 2
    assert target_of(ledger(WEB1, WEB2), template(None, "acme/web:2")).revision == 1


def test_a_rollout_id_that_is_not_ours():
    live = template(None, "acme/web:3", **{RESTARTED_AT: "yesterday"})
    assert target_of(ledger(WEB1, WEB2), live).revision == 2


def test_a_rollout_of_the_future_is_a_target_by_its_revision():
    """The clock was wrong when revision 2 started."""
    future = WEB2.replace(rollout=WEB2.rollout.replace(id="2090" + WEB2.rollout.id[4:]))
    third, fourth = record(3, "acme/web:3", FAILED), record(4, "acme/web:4")
    assert target_of(ledger(WEB1, future, third), third.template).revision == 2
    assert target_of(ledger(WEB1, future, third, fourth), fourth.template).revision == 2
    live = template(2, "acme/web:2", **{RESTARTED_AT: future.rollout.id})
    future = future.replace(template=live)
    assert target_of(ledger(WEB1, future, third, fourth), live).revision == 1


def test_the_choice_changes_nothing():
    records, live = ledger(WEB1, record(2, "acme/web:latest", digest=D1)), template(3, "acme/web:3")
    before = copy.deepcopy(records)
    target_of(records, live)
    assert records == before


# After an automatic rollback


def rolled_back(rollback="done", to=2):
    """Return the records of a deploy that failed, revision 3, and was rolled back, as revision 4."""
    failed = record(3, "acme/web:3", FAILED)
    failed = failed.replace(rollback=rollback, rollout=failed.rollout.replace(rolled_back_to=to))
    restored = record(4, f"acme/web@{D2}", digest=D2)
    return failed, restored.replace(is_rollback=True, rollout=restored.rollout.replace(rolled_back_to=2))


def roll_back_again(records, live_template, revision=None, to=2):
    return choose_target(records, Snapshot(live_with(live_template, to), [], [], []), revision)


TAGGED = record(2, "acme/web:2", digest=D2)


def test_a_second_rollback_is_refused_with_the_revisions_to_choose_from():
    failed, restored = rolled_back()
    oldest = record(0, "acme/web:0", revision=7)
    with pytest.raises(AlreadyRolledBack) as refused:
        roll_back_again(ledger(oldest, WEB1, TAGGED, failed, restored), restored.template)
    assert (refused.value.status, refused.value.reason) == (409, "AlreadyRolledBack")
    sentence = "revision 3 has failed and is rolled back to revision 2 already; choose with "
    assert str(refused.value) == sentence + '"revision": 1, 7'


@pytest.mark.parametrize("rollback", ["done", "pending"])
def test_it_is_refused_before_the_rollback_is_recorded_too(rollback):
    failed, restored = rolled_back(rollback, to=2 if rollback == "done" else None)
    with pytest.raises(AlreadyRolledBack) as refused:
        roll_back_again(ledger(TAGGED, failed), restored.template)
    assert str(refused.value).endswith("already; no other revision that worked is recorded")


def test_it_is_not_refused_for_a_revision():
    failed, restored = rolled_back()
    assert roll_back_again(ledger(WEB1, TAGGED, failed, restored), restored.template, revision=1).revision == 1


def test_it_is_not_refused_after_a_rollback_that_was_asked_for():
    failed, restored = rolled_back("none", to=None)
    assert roll_back_again(ledger(WEB1, TAGGED, failed, restored), restored.template).revision == 1
    # The automatic one found nothing to go back to.
    failed, restored = rolled_back("done", to=None)
    assert roll_back_again(ledger(WEB1, TAGGED, failed, restored), restored.template).revision == 1
    # It was asked for, by number, after the automatic one.
    failed, restored = rolled_back()
    further = record(5, "acme/web:1")
    assert roll_back_again(ledger(WEB1, TAGGED, failed, restored, further), further.template, to=1).revision == 4


def test_it_is_not_refused_over_what_kubectl_set_image_brought():
    failed, restored = rolled_back()
    target = roll_back_again(ledger(WEB1, TAGGED, failed, restored), template(4, "acme/web:by-hand"))
    assert target.revision == 4


def test_it_is_not_refused_where_a_newer_deploy_is_recorded():
    # `kubectl rollout undo` brought the rollback back, with its annotations.
    failed, restored = rolled_back()
    newer = record(5, "acme/web:5")
    assert roll_back_again(ledger(WEB1, TAGGED, failed, restored, newer), restored.template).revision == 1


def test_an_automatic_rollback_is_never_refused_for_that():
    failed, restored = rolled_back()
    snapshot = Snapshot(live_with(restored.template, 2), [], [], [])
    assert choose_target(ledger(WEB1, TAGGED, failed, restored), snapshot, automatic=True).revision == 1
