"""The parts of the application that the views use, and how a view gets them."""

from dataclasses import dataclass

from flask import current_app, request

from access.grants import Access, Grants
from deployer import Deployer
from rollout.metrics import Metrics
from web import parsing
from web.waiting import Waiting

# The key of `app.extensions`: https://flask.palletsprojects.com/en/stable/extensiondev/#the-extension-class-and-initialization
EXTENSION = "auto-deployer"


@dataclass(frozen=True)
class Parts:
    """Hold what the views of one application share."""

    deployer: Deployer
    access: Access
    metrics: Metrics
    waiting: Waiting


def parts() -> Parts:
    """Return the parts of the application that serves the current request."""
    return current_app.extensions[EXTENSION]


def grants(fields: dict | None = None) -> Grants:
    """Return what the credentials of the current request open; `fields` are those of its body. Raises WrongPassword."""
    return parts().access.grants(parsing.read_passwords(request, fields), parsing.read_bearer(request))
