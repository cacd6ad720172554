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
    # The revision that `changes` compare with, the last that worked. For the text only.
    changed_since: int | None = None

    @property
    def ended(self) -> bool:
        """Whether this phase is the last."""
        return self.phase in (Phase.COMPLETE, Phase.FAILED, Phase.SUPERSEDED)

    def as_json(self) -> dict:
        """Return the form that answers have."""
        fields = asdict(self)
        del fields["changed_since"]
        return fields

    def as_line(self) -> str:
        """Return the gist in one line: the verdict, and the first cause of a failure."""
        head, *more = self.as_text().splitlines()
        return f"{head}: {more[0]}" if self.phase is Phase.FAILED and more else head

    def as_text(self) -> str:
        """Return the form that a colleague would give it; the first word is the phase, or `ok`."""
        which = f"revision {self.revision} of {self.deployment}" if self.revision else self.deployment
        lines = []
        for cause in self.causes:
            where = ", container ".join(part for part in (cause.pod, cause.container) if part)
            what = ", ".join(
                [cause.reason]
                + ([f"exit code {cause.exit_code}"] if cause.exit_code is not None else [])
                + ([cause.message] if cause.message else [])
            )
            lines.append(f"{where}: {what}" if where else what)
            lines += [f"  {line}" for line in cause.logs]
        if self.changes:
            since = f"changed since revision {self.changed_since}, the last that worked: "
            lines.append(since + "; ".join(each.replace("image: ", "image ", 1) for each in self.changes))
        if self.rolled_back_to:
            lines.append(f"rolled back to revision {self.rolled_back_to}")
        if self.phase is Phase.COMPLETE:
            head = f"ok: {which} in {self.namespace}, image {self.image}, id {self.id}\n{self.message}"
        elif self.phase is Phase.FAILED and self.message == "does not start":
            head = f"failed: {which} does not start"
        else:
            head = f"{self.phase}: {which}: {self.message}"
            lines += [] if self.ended else [f"id {self.id}"]
        return "\n".join([head, *lines])
