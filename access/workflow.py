"""A GitHub workflow, and which deployments the annotations of the manifests let it deploy."""

from collections.abc import Mapping
from dataclasses import dataclass

from errors import WorkflowNotAllowed, WrongPassword
from manifest.annotations import GITHUB_ENVIRONMENT, GITHUB_REF, GITHUB_REPOSITORY_ID


@dataclass(frozen=True)
class Workflow:
    """Hold what a valid token says about the workflow that GitHub gave it to."""

    repository_id: str
    repository: str
    ref: str
    event: str
    environment: str | None = None

    def check(self, name: str, annotations: Mapping[str, str]) -> None:
        """Check that the annotations of the deployment's manifest allow this workflow.

        Raises WrongPassword for a workflow of another repository. Raises WorkflowNotAllowed, which says more, for one
        of the right repository: only a person who may push there gets such a token. The repository's id is compared,
        since its name and the form of `sub` can change: https://docs.github.com/en/actions/reference/security/oidc
        """
        if self.repository_id not in _values(annotations.get(GITHUB_REPOSITORY_ID, "")):
            raise WrongPassword
        # The author of a pull request chooses what its workflow runs, and every user of GitHub can open one.
        if self.event in ("pull_request", "pull_request_target") or self.ref.startswith("refs/pull/"):
            raise WorkflowNotAllowed(
                f"this token is from a pull request, which may not deploy {name}; deploy on a push"
            )
        limits = ((GITHUB_REF, "", self.ref), (GITHUB_ENVIRONMENT, "environment ", self.environment))
        for annotation, kind, actual in limits:
            allowed = _values(annotations[annotation]) if annotation in annotations else [actual]
            if actual not in allowed:
                origin = f"{kind}{actual}" if actual else f"no {kind}".strip()
                right = " or ".join(allowed) or f"nowhere: its annotation {annotation} is empty"
                raise WorkflowNotAllowed(f"this token is from {origin}; {name} may be deployed from {kind}{right}")


def _values(annotation: str) -> list[str]:
    return [part.strip() for part in annotation.split(",") if part.strip()]
