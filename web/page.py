"""The pages that a browser shows: from the same data as the JSON, by the templates in templates/."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Blueprint, Response, render_template, request

from version import VERSION

blueprint = Blueprint("page", __name__, static_folder="static", static_url_path="/static", template_folder="templates")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Of a bar in a strip; the width is with the gap beside it.
BAR_WIDTH, MAX_BAR_HEIGHT, MIN_BAR_HEIGHT = 8, 28, 5
# In which order the overview counts them.
PHASES = ("failed", "invalid", "unknown", "progressing", "paused", "superseded", "complete", "absent")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True)
class Page:
    """Hold what a page shows. A running one has changed when its tag has; `is_running`: a rollout on it goes on."""

    template: str
    data: Mapping
    is_running: bool = False

    @property
    def tag(self) -> str:
        """What tells this page from one with other data."""
        shown = [self.template, self.data]
        return hashlib.blake2b(json.dumps(shown, sort_keys=True).encode(), digest_size=16).hexdigest()

    def render(self) -> str:
        """Return the page as HTML."""
        # Relative, so that it works behind any host and below any path.
        root = "../" * (request.path.count("/") - 1)
        shared = {"tag": self.tag, "is_running": self.is_running, "root": root or "./", "now": datetime.now(UTC)}
        # A caller without the right credentials, who sees the page of an error, doesn't learn the version.
        version = None if self.template == "error.html" else VERSION
        return render_template(self.template, **self.data, **shared, version=version)


@blueprint.after_app_request
def protect(response: Response) -> Response:
    """Let no browser take an answer for what it isn't, load anything from elsewhere for it, or keep it."""
    response.headers.update(HEADERS)
    if request.endpoint != "page.static" or response.status_code >= 400:
        response.headers["Cache-Control"] = "no-store"
    return response


def overview(deployments: list[dict]) -> Page:
    """Show deployments, each with its `name` for the URL, its newest rollout and its `history`."""
    phases = Counter(each["phase"] for each in deployments)
    data = {"deployments": deployments, "phases": [[phase, phases[phase]] for phase in PHASES if phases[phase]]}
    return Page("overview.html", data, is_running="progressing" in phases)


def rollout(data: dict, is_newest: bool) -> Page:
    """Show one rollout, and the history of its Deployment."""
    running = data["phase"] in ("progressing", "paused")
    return Page("rollout.html", {"rollout": data, "is_newest": is_newest}, is_running=running)


def error(status: int, sentence: str) -> Page:
    """Show why there is nothing to show."""
    return Page("error.html", {"status": status, "sentence": sentence}, is_running=status in (404, 503, 504))


@blueprint.app_template_filter()
def exact(time: str) -> str:
    """Write a time of the JSON for people, in UTC.

    >>> exact("2026-11-24T06:52:22.861641Z")
    '2026-11-24 06:52:22 UTC'
    """
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@blueprint.app_template_filter()
def span(seconds: float) -> str:
    """Write a number of seconds for people; page.js does the same.

    >>> span(4.2), span(75), span(7300), span(200000)
    ('4 s', '1 min', '2 h', '2 d')
    """
    seconds = max(0, int(seconds))
    return next((f"{seconds // size} {unit}" for size, unit in _UNITS if seconds >= size), f"{seconds} s")


@blueprint.app_template_filter()
def seconds_until(start: str, end: str | datetime) -> float:
    """Return the seconds between two times of the JSON."""
    end = datetime.fromisoformat(end) if isinstance(end, str) else end
    return (end - datetime.fromisoformat(start)).total_seconds()


@blueprint.app_template_filter()
def short(digest: str | None) -> str:
    """Cut a digest to what tells it from others.

    >>> short("sha256:0123456789abcdef")
    '0123456789ab'
    """
    return (digest or "").partition(":")[2][:12]


@blueprint.app_template_filter()
def safe_link(link: str | None) -> str | None:
    """Return a link that may be followed: the annotation that it comes from could hold a script."""
    return link if link and re.match("https?://", link) else None


@blueprint.app_template_filter()
def bars(history: list[dict]) -> list[dict]:
    """Return the bars of a strip, the newest at its right end: the height is the duration, the title says which."""
    took = [seconds_until(each["started_at"], each["finished_at"]) if each["finished_at"] else None for each in history]
    most = math.log1p(max([1, *(seconds for seconds in took if seconds)]))
    found = []
    for each, seconds in zip(history, took, strict=True):
        share = 1 if seconds is None else math.log1p(max(0, seconds)) / most
        height = round(MIN_BAR_HEIGHT + (MAX_BAR_HEIGHT - MIN_BAR_HEIGHT) * share, 1)
        which = f"revision {each['revision']}" if each["revision"] else each["id"]
        duration = "" if seconds is None else f" after {span(seconds)}"
        title = f"{which}: {each['phase']}{duration}, {each['image']}, {exact(each['started_at'])}"
        y = round(MAX_BAR_HEIGHT - height, 1)
        found.append({"y": y, "height": height, "phase": each["phase"], "title": title})
    return [bar | {"x": place * BAR_WIDTH} for place, bar in enumerate(reversed(found))]
