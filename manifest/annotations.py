"""Name every annotation that this service reads or writes."""

import json

# On the pod template it holds the rollout id. A new value makes Kubernetes roll out even when nothing else has changed.
RESTARTED_AT = "auto-deployer/restartedAt"
# A rollback pins the images to digests. Where the manifest has no spec, this annotation on the pod template keeps what
# the images were called before, as JSON: container -> image.
UNPINNED = "auto-deployer/unpinned"
# On the Deployment it holds the revision that it was rolled back to. A process that sends a rollback may die before it
# records it; then another process learns it from here.
ROLLED_BACK_TO = "auto-deployer/rolled-back-to"
# On the Deployment it holds, as JSON, what the newest signal asked for, with the rollout id. A process that takes the
# rollout up, after a crash or in another replica, learns it from here. It isn't on the pod template, so it makes
# Kubernetes roll out nothing.
SIGNAL = "auto-deployer/signal"

# On the live Deployment it refuses every deploy; its text says why. An operator sets it with `kubectl annotate`.
LOCKED = "auto-deployer/locked"

# On a manifest they say which workflows of GitHub Actions may deploy it. Commas separate several values. The repository
# is required, the other two are optional.
GITHUB_REPOSITORY_ID = "auto-deployer/github-repository-id"
GITHUB_REF = "auto-deployer/github-ref"
GITHUB_ENVIRONMENT = "auto-deployer/github-environment"
GITHUB = (GITHUB_REPOSITORY_ID, GITHUB_REF, GITHUB_ENVIRONMENT)

# `kubectl rollout history` shows the change-cause. https://kubernetes.io/docs/reference/labels-annotations-taints/#change-cause
CHANGE_CAUSE = "kubernetes.io/change-cause"
# The Deployment controller numbers the ReplicaSets with it.
REVISION = "deployment.kubernetes.io/revision"


def annotations_of(thing: dict) -> dict[str, str]:
    """Return the annotations of an object or of a pod template; an empty dict when it has none."""
    return (thing.get("metadata") or {}).get("annotations") or {}


def rolled_back_to(live: dict) -> int | None:
    """Return the revision that a live Deployment was rolled back to, by its annotation; None if it wasn't."""
    revision = annotations_of(live).get(ROLLED_BACK_TO, "")
    return int(revision) if revision.isdecimal() else None


def signal_of(live: dict) -> dict:
    """Return what the signal asked for that started what is live; an empty dict when another client started it."""
    try:
        signal = json.loads(annotations_of(live)[SIGNAL])
        is_ours = signal["id"] == annotations_of(live["spec"]["template"])[RESTARTED_AT]
    except (KeyError, TypeError, ValueError):
        return {}  # The annotation is missing, or another client has overwritten it.
    return {name: value for name, value in signal.items() if isinstance(value, str | bool)} if is_ours else {}


def signals_of(live: dict | None) -> list[tuple[str, str | None, str | None]]:
    """Return rollout id, key and fingerprint of the newest signals, the one that started what is live last.

    It knows also those whose rollout was superseded before a process could record it.
    """
    try:
        noted = json.loads(annotations_of(live or {})[SIGNAL])
        found = [*noted.get("earlier", []), [noted["id"], noted.get("key"), noted.get("fingerprint")]]
        return [(rollout_id, key, fingerprint) for rollout_id, key, fingerprint in found if isinstance(rollout_id, str)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def lock_of(live: dict | None) -> str | None:
    """Return why a live Deployment is locked; None where it isn't."""
    return annotations_of(live or {}).get(LOCKED)
