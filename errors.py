"""Refusals: what a sender gets instead of a rollout. A leaf, so that nobody imports app.py to refuse something."""


class Refusal(Exception):
    """Answer a request with `status`, a CamelCase `reason` and a sentence that says what to do."""

    status = 500
    reason = "InternalError"

    def __init__(self, sentence: str, reason: str | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason or self.reason


class BadRequest(Refusal):
    """The body or one of its fields can't be used."""

    status, reason = 400, "BadRequest"


class WrongPassword(Refusal):
    """Nobody who is refused learns more than this one sentence, whatever they asked for."""

    status, reason = 403, "WrongPassword"

    def __init__(self) -> None:
        super().__init__("wrong or missing password")


class WorkflowNotAllowed(Refusal):
    """The token is of the right repository, but not of what may deploy from there."""

    status, reason = 403, "WorkflowNotAllowed"


class NotDockerHub(Refusal):
    """The webhook says that it comes from elsewhere."""

    status, reason = 403, "NotDockerHub"


class OtherImage(Refusal):
    """The image is from a repository that the deployment doesn't run."""

    status, reason = 403, "ImageNotAllowed"


class NotFound(Refusal):
    """No such deployment, neither configured nor in the cluster."""

    status, reason = 404, "NotFound"


class Conflict(Refusal):
    """The Deployment's present state stands against the change."""

    status, reason = 409, "Conflict"


class LengthRequired(Refusal):
    """The request has a body of unknown length."""

    status, reason = 411, "LengthRequired"


class TooLarge(Refusal):
    """The body is over the limit."""

    status, reason = 413, "RequestEntityTooLarge"


class Invalid(Refusal):
    """The manifest, or what the API server makes of it, can't be deployed."""

    status, reason = 422, "Invalid"


class Forbidden(Refusal):
    """This service's own account lacks a right: the operator's error, not the sender's."""

    status, reason = 500, "Forbidden"


class Unreachable(Refusal):
    """The API server can't be reached, or can't work at the moment."""

    status, reason = 503, "ServiceUnavailable"


class TooSlow(Refusal):
    """The API server didn't answer in time."""

    status, reason = 504, "Timeout"
