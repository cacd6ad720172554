"""The passwords: each line of the files that Kubernetes mounts from a Secret is one."""

import hmac
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rate import PerSecond

log = logging.getLogger(__name__)

# The passwords in this file open every deployment; those in a file with another name open the deployment of that name.
EVERY_DEPLOYMENT = "default"
# The lines of this file are the tokens in the URLs of Docker Hub's webhooks. They open nothing else.
DOCKER_HUB = "dockerhub"
MIN_PASSWORD_CHARACTERS = 16
# Beyond this, a guess is compared with what was read last, since reading costs the most. There are fewer threads in
# uwsgi.ini, so one reading of the same second has ended by then.
MAX_READS_PER_SECOND = 100
# What documentation writes in place of a password, letters and digits only. A user never replaced such a line.
_PLACEHOLDER = re.compile(
    r"(please)?(change|replace)(me|this|it|with|by).*|(please)?(insert|put|enter|type|use)(a|the|my|your).*|.*placeholder.*|"
    r"(my|your|the|a)?(own|very|secret|long|strong|random|secure)*(password|passphrase|token)(here|goeshere)?|"
    r"(password|secret|1234567890|0123456789|12345678|123456|1234|abcdefghijklmnop|abcdefgh|abcdef|qwertyuiop|qwerty)+"
)


@dataclass(frozen=True)
class Password:
    """Hold one password, and the name of the file that it is in."""

    file: str
    value: bytes


class Passwords:
    """Compare passwords with the files of a directory. Each use reads them again, up to MAX_READS_PER_SECOND times."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._logged: list[str] = []
        self._reads = PerSecond()
        self._known: list[Password] = []

    def read(self) -> tuple[list[Password], list[str]]:
        """Return the usable passwords, and a sentence for each file or line that can't be used; log a new sentence."""
        passwords, problems = [], []
        try:
            # Kubernetes puts `..data` and other names with a dot in front there for its own use.
            names = sorted(name for name in os.listdir(self.directory) if not name.startswith("."))
        except OSError as error:
            names, problems = [], [f"{self.directory} can't be read: {error.strerror}"]
        for name in names:
            found, wrong = _read_file(self.directory / name)
            passwords += found
            problems += wrong
        if problems != self._logged:
            self._logged = problems
            for problem in problems:
                log.warning(problem)
        return passwords, problems

    def files_with(self, given: Iterable[bytes]) -> frozenset[str]:
        """Return the names of the files that have one of the given passwords on a line."""
        # Each given one is compared with every line, so that the time tells an attacker nothing.
        known = self._newest()
        return frozenset(each.file for each in known for one in given if hmac.compare_digest(each.value, one))

    def _newest(self) -> list[Password]:
        if self._reads.count() <= MAX_READS_PER_SECOND:
            self._known, _ = self.read()
        return self._known


def _read_file(path: Path) -> tuple[list[Password], list[str]]:
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        return [], [f"{path} can't be read: {error.strerror}"]
    passwords, problems = [], []
    for number, line in enumerate((line.rstrip(b"\r") for line in lines), 1):
        if not line.strip():
            continue
        if weakness := _weakness(line):
            problems.append(f"{path}, line {number}, opens nothing: {weakness}")
        else:
            passwords.append(Password(path.name, line))
    return passwords, problems


def _weakness(line: bytes) -> str | None:
    text = line.decode("utf-8", "replace")
    if len(text) < MIN_PASSWORD_CHARACTERS:
        return f"it is shorter than {MIN_PASSWORD_CHARACTERS} characters"
    letters = re.sub(r"[\W_]+", "", text.casefold())
    unexpanded = text.startswith(("<", "${", "$(")) and text.endswith((">", "}", ")"))
    if unexpanded or len(set(text)) == 1 or _PLACEHOLDER.fullmatch(letters):
        return "it is a placeholder; make a password with: openssl rand -base64 24"
    return None
