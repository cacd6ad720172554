"""What everyone in this package shares. A leaf."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """Where a rollout stands."""

    PROGRESSING = "progressing"
    COMPLETE = "complete"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    PAUSED = "paused"


@dataclass(frozen=True)
class Cause:
    """Say why pods don't get ready; what isn't known, or has no pod, is None."""

    reason: str
    message: str | None = None
    pod: str | None = None
    container: str | None = None
    exit_code: int | None = None
    logs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replicas:
    """Count pods in the words of a Deployment's status."""

    desired: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0


@dataclass(frozen=True)
class Rollout:
    """Describe one rollout; times are ISO 8601 in UTC, `id` is the stamp on its pod template."""

    id: str
    deployment: str
    namespace: str
    image: str
    phase: Phase
    message: str
    started_at: str
    digest: str | None = None
    revision: int | None = None
    replicas: Replicas = field(default_factory=Replicas)
    causes: tuple[Cause, ...] = ()
    changes: tuple[str, ...] = ()
    rolled_back_to: int | None = None
    finished_at: str | None = None

    def as_json(self) -> dict:
        """Return the form that answers have."""
        return asdict(self)
