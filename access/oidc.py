"""Check the tokens that GitHub gives to the jobs of its workflows, and what a workflow may deploy.

Only a service with the setting OIDC_AUDIENCE imports this module: the cryptography that it needs takes some 10 MiB.
"""

import logging
import math
import time
from collections.abc import Mapping
from threading import BoundedSemaphore, Lock
from urllib.parse import urlsplit

import jwt
from pydantic import BaseModel

from errors import InvalidToken, Unreachable, WorkflowNotAllowed, WrongPassword
from manifest.annotations import GITHUB_ENVIRONMENT, GITHUB_REF, GITHUB_REPOSITORY_ID
from rate import few_lines

log = logging.getLogger(__name__)
log.addFilter(few_lines())

# GitHub's tokens have some 2 KiB. The service refuses a longer one without reading it.
MAX_TOKEN_BYTES = 16 * 1024
# For so long the service uses the issuer's keys without fetching them again.
MAX_KEY_AGE_SECONDS = 3600
# While it has keys, the service lets so much time pass before it looks for one that it doesn't know.
MIN_SECONDS_BETWEEN_FETCHES = 60
# While it has none, a fetch that failed stands for so long.
MIN_SECONDS_AFTER_FAILURE = 10
MAX_ISSUER_SECONDS = 5
# An issuer that never answers holds a thread for each request that waits for a fetch.
MAX_FETCHING_REQUESTS = 8


class Workflow(BaseModel, frozen=True):
    """Hold the claims of a token: https://docs.github.com/en/actions/reference/security/oidc#oidc-token-claims"""

    repository_id: str
    repository: str
    ref: str
    event_name: str = ""
    environment: str | None = None
    iss: str = ""
    actor: str = ""
    sha: str = ""
    run_id: str = ""

    @property
    def by(self) -> str:
        """Who runs the workflow, and from which commit."""
        commit = f"@{self.sha[:7]}" if self.sha else ""
        return ", ".join(filter(None, (self.actor, self.repository + commit)))

    @property
    def link(self) -> str | None:
        """Where the run can be seen. On GitHub Enterprise the issuer's host has the runs too.

        https://docs.github.com/en/enterprise-server@latest/actions/reference/security/oidc
        """
        host = urlsplit(self.iss).netloc
        host = "github.com" if host.endswith(".githubusercontent.com") else host.removeprefix("token.actions.")
        return f"https://{host}/{self.repository}/actions/runs/{self.run_id}" if self.run_id.isdecimal() else None

    def check(self, name: str, annotations: Mapping[str, str]) -> None:
        """Check that the annotations of the deployment's manifest allow this workflow.

        Raises WrongPassword for a workflow of another repository. Raises WorkflowNotAllowed, which says more, for one
        of the right repository: only a person who may push there gets such a token. The repository's id is compared,
        since its name and the form of `sub` can change: https://docs.github.com/en/actions/reference/security/oidc
        """
        if self.repository_id not in _values(annotations.get(GITHUB_REPOSITORY_ID, "")):
            raise WrongPassword
        # The author of a pull request chooses what its workflow runs, and every user of GitHub can open one.
        if self.event_name in ("pull_request", "pull_request_target") or self.ref.startswith("refs/pull/"):
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


class Tokens:
    """Check the tokens that one issuer makes for one audience."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer, self._audience = issuer, audience
        self._lock = Lock()
        self._places = BoundedSemaphore(MAX_FETCHING_REQUESTS)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -math.inf

    def workflow(self, token: bytes) -> Workflow:
        """Return the workflow that the issuer gave a token to.

        Raises InvalidToken for a text that is no valid token, and Unreachable when the issuer's keys can't be fetched.
        """
        if len(token) > MAX_TOKEN_BYTES:
            log.warning("a token is refused: it has more than %s bytes", MAX_TOKEN_BYTES)
            raise InvalidToken
        try:
            header = jwt.get_unverified_header(token)
            # Checked before the look for a key. This service never fetches a URL that a header names.
            if header.get("alg") != "RS256" or not header.get("kid"):
                raise jwt.InvalidAlgorithmError("a token must be signed with RS256 and name its key")
            claims = jwt.decode(
                token,
                self._key(header["kid"]),
                algorithms=["RS256"],
                audience=self._audience,
                issuer=self._issuer,
                # Not `iat`: RFC 7519 makes no rule of it, and a clock that is a second slow would refuse good tokens.
                options={"require": ["aud", "exp", "iss"], "verify_iat": False},
            )
            return Workflow.model_validate(claims)
        # A forger can write anything into a token, also values of another type or nested too deep.
        except (jwt.PyJWTError, ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
            # Not the error's text, which may quote the token.
            log.warning("a token is refused: %s", type(error).__name__)
            raise InvalidToken from None

    def _key(self, kid: str) -> jwt.PyJWK:
        # First without the lock: a token with a known key doesn't wait while another thread fetches keys.
        if key := self._known().get(kid):
            return key
        if self._may_fetch():
            if not self._places.acquire(blocking=False):
                raise self._unreachable()
            try:
                with self._lock:
                    # Another thread may have fetched them in the meantime, or failed to.
                    if self._may_fetch():
                        self._fetch()
            finally:
                self._places.release()
        if key := self._known().get(kid):
            return key
        if self._fetched_at < self._tried_at:
            raise self._unreachable()
        raise jwt.InvalidKeyError("the issuer has no key with this id")

    def _may_fetch(self) -> bool:
        # While there are keys, tokens with invented key ids cause at most one fetch a minute.
        pause = MIN_SECONDS_BETWEEN_FETCHES if self._known() else MIN_SECONDS_AFTER_FAILURE
        return self._tried_at + pause < time.monotonic()

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"the keys of {self._issuer} can't be fetched, so the token can't be checked; try again")

    def _known(self) -> dict[str, jwt.PyJWK]:
        return self._keys if time.monotonic() < self._fetched_at + MAX_KEY_AGE_SECONDS else {}

    def _fetch(self) -> None:
        # https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
        place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            keys_at = _client(place).fetch_data().get("jwks_uri")
            if not isinstance(keys_at, str) or not keys_at.startswith(self._issuer.partition(":")[0] + ":"):
                raise ValueError("jwks_uri is missing, or less secure than the issuer's URL")
            self._keys = {key.key_id: key for key in _client(keys_at).get_signing_keys()}
            self._fetched_at = self._tried_at = time.monotonic()
        except (jwt.PyJWTError, AttributeError, OSError, TypeError, ValueError) as error:
            log.warning("the keys of %s can't be fetched: %s", self._issuer, error)
            self._tried_at = time.monotonic()


def _client(url: str) -> jwt.PyJWKClient:
    return jwt.PyJWKClient(url, cache_jwk_set=False, timeout=MAX_ISSUER_SECONDS)


def _values(annotation: str) -> list[str]:
    return [part.strip() for part in annotation.split(",") if part.strip()]
