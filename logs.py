"""The log: JSON lines on stderr, each with the id of the request that caused it."""

import json
import logging
from datetime import UTC, datetime

from flask import g, has_request_context

FIELDS = ("request_id", "method", "path", "status", "milliseconds", "deployment", "namespace", "id")

_ENCODER = json.JSONEncoder(default=str)


class JsonLines(logging.Formatter):
    """Write a record as one line of JSON, with those of its extra fields that FIELDS names."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        if has_request_context() and "request_id" in g:
            line["request_id"] = g.request_id
        line |= {field: getattr(record, field) for field in FIELDS if hasattr(record, field)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line)


def configure() -> None:
    """Write every record of the level INFO and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    # No line tells these: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # urllib3 warns when many signals at once need more connections than its pool holds, which is no fault.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
