"""Which workflow sent it, by the token that GitHub gives to each job. Imported only where tokens are let in."""

import logging
import math
import time
from threading import Lock

import jwt

from access.passwords import Workflow
from errors import Unreachable, WrongPassword

log = logging.getLogger(__name__)

# GitHub's tokens have some 2 KiB; nothing longer is looked at.
LONGEST_TOKEN = 16 * 1024
# Seconds for which keys are taken as they are, and between two looks for one that isn't among them.
KEYS_LAST, KEYS_PAUSE = 3600, 60
# Seconds to wait for an answer of the issuer.
TIMEOUT = 5


class Tokens:
    """Check tokens of one issuer, made for one audience."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer, self._audience = issuer, audience
        self._lock = Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -math.inf
        self._has_failed = False

    def workflow(self, token: bytes) -> Workflow:
        """Return the workflow that a token was given to.

        Raises WrongPassword for whatever isn't a valid token, and Unreachable where the issuer's keys can't be had.
        The claims: https://docs.github.com/en/actions/reference/security/oidc#oidc-token-claims
        """
        if len(token) > LONGEST_TOKEN:
            raise WrongPassword
        try:
            header = jwt.get_unverified_header(token)
            # Before a key is looked for: whatever else the header says, URLs included, nobody follows it.
            if header.get("alg") != "RS256" or not header.get("kid"):
                raise jwt.InvalidAlgorithmError("only RS256 with a key's id is taken")
            claims = jwt.decode(
                token,
                self._key(header["kid"]),
                algorithms=["RS256"],
                audience=self._audience,
                issuer=self._issuer,
                # When it was issued is no rule (RFC 7519, 4.1.6), and a clock a second behind would break it.
                options={"require": ["aud", "exp", "iss"], "verify_iat": False},
            )
        # Whatever a forger writes into it: too deep, too large or of another type.
        except (jwt.PyJWTError, ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
            # The name says it all, and the text may quote the token.
            log.warning("a token is refused: %s", type(error).__name__)
            raise WrongPassword from None
        return Workflow(
            repository_id=str(claims.get("repository_id")),
            repository=str(claims.get("repository")),
            ref=str(claims.get("ref")),
            environment=str(claims["environment"]) if "environment" in claims else None,
            event=str(claims.get("event_name")),
        )

    def _key(self, kid: str) -> jwt.PyJWK:
        # First without the lock: who has a known key doesn't wait for those who haven't.
        if key := self._known().get(kid):
            return key
        arrived = time.monotonic()
        with self._lock:
            # As long as there are keys, whoever makes up ids causes no more than a request a minute. Without any, those
            # who came while the issuer didn't answer needn't try it one after the other.
            if self._tried_at + (KEYS_PAUSE if self._known() else 0) < arrived:
                self._fetch()
            if key := self._known().get(kid):
                return key
            if self._has_failed:
                raise Unreachable(
                    f"the keys of {self._issuer} can't be fetched, so the token can't be checked; try again"
                )
        raise jwt.InvalidKeyError("no key has this id")

    def _known(self) -> dict[str, jwt.PyJWK]:
        return self._keys if time.monotonic() < self._fetched_at + KEYS_LAST else {}

    def _fetch(self) -> None:
        # https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
        place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        self._has_failed = True
        try:
            keys_at = jwt.PyJWKClient(place, cache_jwk_set=False, timeout=TIMEOUT).fetch_data().get("jwks_uri")
            if not isinstance(keys_at, str) or not keys_at.startswith(self._issuer.partition(":")[0] + ":"):
                raise ValueError("no jwks_uri, or one that is less secure than the issuer")
            keys = jwt.PyJWKClient(keys_at, cache_jwk_set=False, timeout=TIMEOUT).get_signing_keys()
            self._keys, self._fetched_at = {key.key_id: key for key in keys}, time.monotonic()
            self._has_failed = False
        except (jwt.PyJWTError, AttributeError, OSError, TypeError, ValueError) as error:
            log.warning("the keys of %s can't be fetched: %s", self._issuer, error)
        self._tried_at = time.monotonic()
