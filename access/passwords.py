"""Who may: passwords, one a line, in files that Kubernetes mounts from a Secret; workflows that a manifest names."""

import hmac
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from errors import BadRequest, NotFound, Refusal, WorkflowNotAllowed, WrongPassword
from manifest.annotations import GITHUB_ENVIRONMENT, GITHUB_REF, GITHUB_REPOSITORY_ID

log = logging.getLogger(__name__)

EVERY_DEPLOYMENT = "default"
# The file of the tokens that Docker Hub's webhooks carry: they open nothing else.
DOCKER_HUB = "dockerhub"
SHORTEST = 16
# What stands in documentation where a password should be (letters and digits only): such a line was never replaced.
_PLACEHOLDER = re.compile(
    r"(please)?(change|replace)(me|this|it|with|by).*|(please)?(insert|put|enter|type|use)(a|the|my|your).*|.*placeholder.*|"
    r"(my|your|the|a)?(own|very|secret|long|strong|random|secure)*(password|passphrase|token)(here|goeshere)?|"
    r"(password|secret|1234567890|0123456789|12345678|123456|1234|abcdefghijklmnop|abcdefgh|abcdef|qwertyuiop|qwerty)+"
)


@dataclass(frozen=True)
class Key:
    """Open the deployment that its file is named after with one line of that file."""

    file: str
    password: bytes


class Passwords:
    """Check passwords against the files of a directory, read when used: a rotated Secret works at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reported: list[str] = []

    def read(self) -> tuple[list[Key], list[str]]:
        """Return the usable passwords, and a sentence for each line or file that opens nothing. Raises nothing."""
        keys, problems = [], []
        try:
            # Kubernetes mounts a Secret through `..data` and its like: those files are not ours.
            files = sorted(path for path in self._directory.iterdir() if not path.name.startswith("."))
        except OSError as error:
            files, problems = [], [f"{self._directory} can't be read: {error.strerror}"]
        for path in files:
            try:
                lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
            except OSError as error:
                problems.append(f"{path} can't be read: {error.strerror}")
                continue
            for number, line in enumerate((line.rstrip(b"\r") for line in lines), 1):
                if not line.strip():
                    continue
                if fault := _fault(line):
                    problems.append(f"{path}, line {number}, opens nothing: {fault}")
                else:
                    keys.append(Key(path.name, line))
        if problems != self._reported:
            self._reported = problems
            for problem in problems:
                log.warning(problem)
        return keys, problems

    def opened(self, passwords: Iterable[bytes]) -> "Opened":
        """Return what these passwords open. Raises WrongPassword when that is nothing at all."""
        files = self._matching(passwords) - {DOCKER_HUB}
        if not files:
            raise WrongPassword
        return Opened(files)

    def check_docker_hub(self, token: bytes) -> None:
        """Let Docker Hub's token pass. Raises WrongPassword for any other."""
        if DOCKER_HUB not in self._matching([token]):
            raise WrongPassword

    def _matching(self, passwords: Iterable[bytes]) -> frozenset[str]:
        # With every line, whatever was asked for, so that the time says nothing.
        keys, _ = self.read()
        return frozenset(key.file for key in keys for given in passwords if hmac.compare_digest(key.password, given))


@dataclass(frozen=True)
class Workflow:
    """Hold what a valid token says of the workflow that it was given to."""

    repository_id: str
    repository: str
    ref: str
    event: str
    environment: str | None = None

    def check(self, name: str, annotations: Mapping[str, str]) -> None:
        """Let a workflow pass that the annotations of a manifest name.

        Raises WrongPassword for one of another repository, and WorkflowNotAllowed, which says more, for one of the
        right repository: only whoever may push there gets its tokens. By the repository's id, since names and the
        form of `sub` change: https://docs.github.com/en/actions/reference/security/oidc
        """
        if self.repository_id not in _several(annotations.get(GITHUB_REPOSITORY_ID, "")):
            raise WrongPassword
        # Whoever opens one chooses what its workflow runs.
        if self.event in ("pull_request", "pull_request_target") or self.ref.startswith("refs/pull/"):
            raise WorkflowNotAllowed(f"this token is from a pull request, and none may deploy {name}; deploy on a push")
        limits = ((GITHUB_REF, "", self.ref), (GITHUB_ENVIRONMENT, "environment ", self.environment))
        for annotation, what, mine in limits:
            allowed = _several(annotations[annotation]) if annotation in annotations else [mine]
            if mine not in allowed:
                own = f"{what}{mine}" if mine else f"no {what}".strip()
                right = " or ".join(allowed) or f"nowhere: its annotation {annotation} is empty"
                raise WorkflowNotAllowed(f"this token is from {own}; {name} may be deployed from {what}{right}")


@dataclass(frozen=True)
class Opened:
    """Tell which deployments somebody may see and change.

    `admit` is asked about what no password opens: it raises a Refusal unless it opens the deployment of that name.
    """

    files: frozenset[str] = frozenset()
    admit: Callable[[str], None] | None = None

    def among(self, configured: list[str]) -> list[str]:
        """Return those of the configured deployments that are opened. Raises WrongPassword where a token opens none."""
        refusals = {name: self._refusal(name) for name in configured}
        opened = [name for name in configured if refusals[name] is None]
        if not opened and self.admit:
            # Where one says more, it is of the right repository.
            raise next((each for each in refusals.values() if isinstance(each, WorkflowNotAllowed)), WrongPassword())
        return opened

    def pick(self, name: str | None, configured: list[str]) -> str:
        """Return the deployment that is meant: the named one, or the only one.

        Raises WrongPassword for a name that isn't opened, configured or not; NotFound; BadRequest when several are
        configured and none is named.
        """
        if name is not None:
            if refusal := self._refusal(name):
                raise refusal
            if name not in configured:
                raise NotFound(f"no deployment {name} is configured; {_listed(self.among(configured))}")
            return name
        opened = self.among(configured)
        if len(configured) > 1 and opened:
            raise BadRequest(f"several deployments are configured; name one in the URL: {_listed(opened)}")
        if not opened and EVERY_DEPLOYMENT not in self.files:
            raise WrongPassword
        if not opened:
            raise NotFound("no deployment is configured; put a manifest NAME.yaml into DEPLOYMENTS_DIR")
        return opened[0]

    def _refusal(self, name: str) -> Refusal | None:
        if EVERY_DEPLOYMENT in self.files or name in self.files:
            return None
        if self.admit is None:
            return WrongPassword()
        try:
            self.admit(name)
        except Refusal as refusal:
            return refusal
        return None


def _several(annotation: str) -> list[str]:
    return [part.strip() for part in annotation.split(",") if part.strip()]


def _listed(names: list[str]) -> str:
    return "there is " + ", ".join(f"/deployment/{name}" for name in names) if names else "there is none"


def _fault(line: bytes) -> str | None:
    text = line.decode("utf-8", "replace")
    if len(text) < SHORTEST:
        return f"it is shorter than {SHORTEST} characters"
    letters = re.sub(r"[\W_]+", "", text.casefold())
    unexpanded = text.startswith(("<", "${", "$(")) and text.endswith((">", "}", ")"))
    if unexpanded or len(set(text)) == 1 or _PLACEHOLDER.fullmatch(letters):
        return "it is a placeholder; make one with: openssl rand -base64 24"
    return None
