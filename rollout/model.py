"""What every module of this room shares: one rollout, as it stands. It imports no other room.

The models are also the form in which a rollout is stored and answered: their fields, or the aliases of these, are the
fields of the JSON.
"""

from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SerializationInfo, model_serializer

# The context of a serialization that keeps what `Frozen` read and doesn't know.
WITH_UNKNOWN = {"with_unknown": True}


class Frozen(BaseModel):
    """Hold values that never change, and the fields of stored JSON that only another version of this service knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    def replace(self, **changes: object) -> Self:
        """Return a copy with these fields changed."""
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}")
        return self.model_copy(update=changes)

    def renewed_by(self, newer: Self) -> Self:
        """Return a newer state, with the fields of this one that only another version of this service knows."""
        return self.replace(**{name: getattr(newer, name) for name in type(self).model_fields})

    @model_serializer(mode="wrap")
    def _serialize(self, known, info: SerializationInfo) -> dict:
        return known(self) | ((self.model_extra or {}) if info.context == WITH_UNKNOWN else {})


class Phase(StrEnum):
    """Where a rollout stands."""

    PROGRESSING = "progressing"
    COMPLETE = "complete"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    PAUSED = "paused"


class PodProblem(Frozen):
    """Say why a pod isn't ready; what isn't known, or has no pod, is None."""

    reason: str
    message: str | None = None
    pod: str | None = None
    container: str | None = None
    exit_code: int | None = None
    logs: tuple[str, ...] = ()


class Replicas(Frozen):
    """Count pods in the words of a Deployment's status."""

    desired: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0


class Rollout(Frozen):
    """Describe one rollout; `id` is the rollout id on its pod template, or the ReplicaSet's name of a foreign one."""

    id: str
    deployment: str
    namespace: str
    image: str
    phase: Phase = Phase.PROGRESSING
    message: str = "applied; Kubernetes rolls it out now"
    started_at: AwareDatetime
    digest: str | None = None
    revision: int | None = None
    replicas: Replicas = Replicas()
    problems: tuple[PodProblem, ...] = Field((), alias="causes")
    changes: tuple[str, ...] = ()
    # The revision that `changes` compare with: the last one that worked.
    changed_since: int | None = None
    rolled_back_to: int | None = None
    # Who sent the signal, and where the sender's run can be seen.
    by: str | None = None
    link: str | None = None
    finished_at: AwareDatetime | None = None

    @property
    def ended(self) -> bool:
        """Whether this phase is the last."""
        return self.phase in (Phase.COMPLETE, Phase.FAILED, Phase.SUPERSEDED)

    @property
    def log_fields(self) -> dict[str, str]:
        """What a log line about this rollout carries."""
        return {"deployment": self.deployment, "namespace": self.namespace, "id": self.id}

    def as_json(self) -> dict:
        """Return the form that answers have."""
        return self.model_dump(mode="json")
