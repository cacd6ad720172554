"""The settings: environment variables, read and checked once, when the process starts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationError
from pydantic.dataclasses import dataclass


def _matching(pattern: str, otherwise: str) -> BeforeValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(otherwise.format(value))
        return value

    return BeforeValidator(check)


def _whole_number(maximum: int) -> BeforeValidator:
    def check(value: str) -> str:
        if not re.fullmatch("[0-9]{1,9}", value) or int(value) > maximum:
            raise ValueError(f"{value!r} is not a whole number from 0 to {maximum}")
        return value

    return BeforeValidator(check)


# Plain HTTP only within one machine: an attacker who can change the keys on their way can forge any token.
_ISSUER = r"https://[^\s/?#]+[^\s?#]*|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/[^\s?#]*)?"
_PUBLIC_URL = r"(https://[^\s/?#()<>\"@]+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?)(/[^\s?#()<>\"]*)?"
_Issuer = Annotated[str, _matching(_ISSUER, "{!r} is no issuer; write its URL, which begins with https://")]
_Directory = Annotated[Path, _matching("(?s).+", "is empty; leave it out for the default, or name a directory")]
_TrueOrFalse = Annotated[bool, _matching("(?i)true|false", "{!r} is neither true nor false")]
# An empty variable means the same as none, as it does to kubectl for KUBECONFIG.
_empty_is_none = BeforeValidator(lambda value: value or None)


def _public_url(value: str) -> str | None:
    if value and not re.fullmatch(_PUBLIC_URL, value):
        raise ValueError(f"{value!r} is no address of this service; write its URL, which begins with https://")
    return value.rstrip("/") or None


@dataclass(frozen=True)
class Settings:
    """Hold the settings. Each field is an environment variable, whose name is the field's in upper case."""

    deployments_dir: _Directory = Path("/etc/auto-deployer/deployments")
    passwords_dir: _Directory = Path("/etc/auto-deployer/passwords")
    rollback_on_failure: _TrueOrFalse = False
    settle_seconds: Annotated[int, _whole_number(maximum=3600)] = 10
    log_tail_lines: Annotated[int, _whole_number(maximum=1000)] = 25
    notify_urls_file: Annotated[Path | None, _empty_is_none] = None
    oidc_audience: Annotated[str | None, _empty_is_none] = None
    oidc_issuer: _Issuer = "https://token.actions.githubusercontent.com"
    # Where the Ingress serves this, without a slash at the end.
    public_url: Annotated[str | None, BeforeValidator(_public_url)] = None
    kubeconfig: Annotated[str | None, _empty_is_none] = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings from environment variables.

        Raises ValueError with one line for every bad variable. It isn't SystemExit, since uWSGI would then start the
        worker again for ever; after a ValueError uWSGI ends with 22.
        """
        names = cls.__dataclass_fields__
        try:
            return cls(**{name: environ[name.upper()] for name in names if name.upper() in environ})
        except ValidationError as error:
            bad = [f"{each['loc'][0].upper()}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()]
            raise ValueError("\n  ".join(["bad settings:", *bad])) from None
