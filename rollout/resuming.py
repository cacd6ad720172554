"""Look for what dead processes left undone, for as long as the API server can't be reached."""

import logging
from collections.abc import Callable

from cluster.backoff import Backoff
from errors import TooSlow, Unreachable
from manifest.files import Manifest

log = logging.getLogger(__name__)

# Between attempts.
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1, 30


def resume_all(resume_one: Callable[[Manifest], None], manifests: Callable[[], list[Manifest]]) -> None:
    """Resume the rollouts of each manifest, all of them again where a call fails."""
    backoff, reported = Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS), None
    while True:
        try:
            for manifest in manifests():
                resume_one(manifest)
            return
        except (Unreachable, TooSlow) as error:
            if str(error) != reported:
                reported = str(error)
                log.warning("unfinished rollouts can't be looked for yet: %s", error)
            backoff.pause()
