"""The errors that a caller gets as an answer. This module imports nothing, so every other module may raise them.

A sentence without details stands here; one with details stands where they are known.
"""


class Refusal(Exception):
    """Refuse a request: the answer has this `status`, this CamelCase `reason` and a sentence that says what to do."""

    status, reason = 500, "InternalError"
    # The header Retry-After of the answer.
    retry_after_seconds: int | None = None

    def __init__(self, sentence: str, reason: str | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason or self.reason


class BadRequest(Refusal):  # The service can't use the body, or one of its fields.
    status, reason = 400, "BadRequest"


class WrongPassword(Refusal):  # The caller's credentials don't open what the caller asks for.
    status, reason = 403, "WrongPassword"

    def __init__(self) -> None:
        # Always the same sentence, so that a caller without a valid password learns nothing else.
        super().__init__("wrong or missing password")


class InvalidToken(Refusal):  # The token is forged, expired, or made for another service.
    status, reason = 403, "InvalidToken"

    def __init__(self) -> None:
        # Which check failed stands only in the log.
        super().__init__("this token isn't valid here")


class WorkflowNotAllowed(Refusal):  # The token's repository may deploy, but not this branch, environment or event.
    status, reason = 403, "WorkflowNotAllowed"


class NotDockerHub(Refusal):  # The webhook names a callback URL that isn't at Docker Hub.
    status, reason = 403, "NotDockerHub"


class CrossSite(Refusal):  # A page of another web site made a browser send the request.
    status, reason = 403, "CrossSite"

    def __init__(self) -> None:
        super().__init__("another web site sent this request; only this service's own page may, and programs")


class OtherImage(Refusal):  # No container of the deployment runs an image of this repository.
    status, reason = 403, "ImageNotAllowed"


class NotFound(Refusal):  # The deployment isn't configured or isn't in the cluster, or the rollout isn't known.
    status, reason = 404, "NotFound"


class RequestTimeout(Refusal):  # The body takes too long to arrive.
    status, reason = 408, "RequestTimeout"

    def __init__(self) -> None:
        super().__init__("the body takes too long to arrive; send it in one piece, at once")


class Conflict(Refusal):  # The present state of the Deployment doesn't allow the change.
    status, reason = 409, "Conflict"


class LengthRequired(Refusal):  # The request doesn't say how long its body is.
    status, reason = 411, "LengthRequired"


class TooLarge(Refusal):  # The body is larger than the limit.
    status, reason = 413, "RequestEntityTooLarge"


class Invalid(Refusal):  # The manifest is wrong, or the API server doesn't accept what it says.
    status, reason = 422, "Invalid"


class KeyReused(Refusal):  # The Idempotency-Key was sent before with another body.
    status, reason = 422, "KeyReused"


class Forbidden(Refusal):  # The service's own account lacks a right in the cluster; only the operator can grant it.
    status, reason = 500, "Forbidden"


class Unreachable(Refusal):  # Another server that the service needs can't be reached or doesn't work at the moment.
    status, reason = 503, "ServiceUnavailable"
    retry_after_seconds = 5


class TooSlow(Refusal):  # The API server doesn't answer in time.
    status, reason = 504, "Timeout"
