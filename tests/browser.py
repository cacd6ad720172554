"""A real Chromium, the one of this machine, and what its tests and the screenshots do with it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from tests.service import PASSWORD

NAMES = ("chromium", "google-chrome")
MISSING = "there is no Chromium; run `apt-get install chromium`, or name one in CHROMIUM=, and run `make test` again"
USER = "jane"


def chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a browser."""
    # Root has no sandbox of its own; nothing but our own pages is opened.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        yield browser
        browser.close()


def open_page(browser: Browser, url: str, **options: object) -> Page:
    """Open a page of a service as a user who knows the password."""
    credentials = {"username": USER, "password": PASSWORD}
    page = browser.new_context(base_url=url, http_credentials=credentials, **options).new_page()
    page.set_default_timeout(30_000)
    return page
