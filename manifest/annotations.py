"""Every annotation that this service reads or writes, by name. A leaf."""

# On the pod template: the rollout id. A new value makes Kubernetes roll out even when nothing else has changed.
RESTARTED_AT = "auto-deployer/restartedAt"
# On the pod template of a rollback where no manifest says which images are meant: container -> image before it was
# pinned to a digest.
UNPINNED = "auto-deployer/unpinned"
# On the Deployment: the revision that it was rolled back to, for a process that finds a rollback which another process
# sent and couldn't record.
ROLLED_BACK_TO = "auto-deployer/rolled-back-to"

# On a manifest: the workflows whose tokens open it. Commas separate several values; all but the first may be left out.
GITHUB_REPOSITORY_ID = "auto-deployer/github-repository-id"
GITHUB_REF = "auto-deployer/github-ref"
GITHUB_ENVIRONMENT = "auto-deployer/github-environment"
GITHUB = (GITHUB_REPOSITORY_ID, GITHUB_REF, GITHUB_ENVIRONMENT)

# Kubernetes' own.
# `kubectl rollout history` shows it. https://kubernetes.io/docs/reference/labels-annotations-taints/#change-cause
CHANGE_CAUSE = "kubernetes.io/change-cause"
# The Deployment controller numbers ReplicaSets with it.
REVISION = "deployment.kubernetes.io/revision"


def annotations_of(thing: dict) -> dict[str, str]:
    """Return the annotations of an object or of a pod template; it may have none."""
    return (thing.get("metadata") or {}).get("annotations") or {}
