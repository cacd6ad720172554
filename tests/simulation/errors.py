"""The API server's refusals: an HTTP status and a Status object, in its words."""

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, code: int, message: str, reason: str | None = None, details: dict | None = None):
        super().__init__(message)
        self.code = code
        reason = reason or REASONS.get(code)
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        self.status |= ({"reason": reason} if reason else {}) | ({} if details is None else {"details": details})
        self.status["code"] = code


def invalid(title: str, group: str, kind: str, name: str, causes: list[tuple[str, str, str]]) -> ApiError:
    """Return the 422 for what validation found: (reason, message, field) each."""
    found = [f"{field}: {message}" for _, message, field in causes]
    details = {"name": name, "group": group, "kind": kind}
    details = {key: value for key, value in details.items() if value}
    details["causes"] = [{"reason": r, "message": m, "field": f} for r, m, f in causes]
    text = found[0] if len(found) == 1 else "[" + ", ".join(found) + "]"
    return ApiError(422, f'{title} "{name}" is invalid: {text}', details=details)
