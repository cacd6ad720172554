"""The settings: environment variables, read and checked once, when the process starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Hold the settings. Each field is an environment variable, whose name is the field's in upper case."""

    deployments_dir: Path = Path("/etc/auto-deployer/deployments")
    passwords_dir: Path = Path("/etc/auto-deployer/passwords")
    rollback_on_failure: bool = False
    settle_seconds: int = 10
    log_tail_lines: int = 25
    notify_urls_file: Path | None = None
    oidc_audience: str | None = None
    oidc_issuer: str = "https://token.actions.githubusercontent.com"
    kubeconfig: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings from environment variables.

        Raises ValueError with one line for every bad variable. It isn't SystemExit, since uWSGI would then start the
        worker again for ever; after a ValueError uWSGI ends with 22.
        """
        values, problems = {}, []
        for variable, read in _READERS.items():
            if variable not in environ:
                continue
            try:
                values[variable.lower()] = read(environ[variable])
            except ValueError as error:
                problems.append(f"{variable}: {error}")
        if problems:
            raise ValueError("bad settings:\n  " + "\n  ".join(problems))
        return cls(**values)


def _directory(value: str) -> Path:
    if not value:
        raise ValueError("is empty; leave it out for the default, or name a directory")
    return Path(value)


def _file(value: str) -> Path | None:
    return Path(value) if value else None


def _optional(value: str) -> str | None:
    # An empty variable means the same as none, as it does to kubectl for KUBECONFIG.
    return value or None


def _issuer(value: str) -> str:
    # Plain HTTP only within one machine: an attacker who can change the keys on their way can forge any token.
    if not re.fullmatch(r"https://[^\s/?#]+[^\s?#]*|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/[^\s?#]*)?", value):
        raise ValueError(f"{value!r} is no issuer; write its URL, which begins with https://")
    return value


def _whole_number(value: str, maximum: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) > maximum:
        raise ValueError(f"{value!r} is not a whole number from 0 to {maximum}")
    return int(value)


def _true_or_false(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value.lower() == "true"


_READERS = {
    "DEPLOYMENTS_DIR": _directory,
    "PASSWORDS_DIR": _directory,
    "ROLLBACK_ON_FAILURE": _true_or_false,
    "SETTLE_SECONDS": partial(_whole_number, maximum=3600),
    "LOG_TAIL_LINES": partial(_whole_number, maximum=1000),
    "NOTIFY_URLS_FILE": _file,
    "OIDC_AUDIENCE": _optional,
    "OIDC_ISSUER": _issuer,
    "KUBECONFIG": _optional,
}
