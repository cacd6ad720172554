"""Which deployments a caller may see and change, by the passwords or the token of the request."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from access.passwords import DOCKER_HUB, EVERY_DEPLOYMENT, Passwords
from errors import BadRequest, Invalid, NotFound, Refusal, WorkflowNotAllowed, WrongPassword
from manifest import files
from rate import few_lines

if TYPE_CHECKING:
    from access.oidc import Tokens, Workflow

log = logging.getLogger(__name__)
log.addFilter(few_lines())


@dataclass(frozen=True)
class Grants:
    """Hold what a caller's credentials open.

    `password_files` are the files that have the caller's password; each opens the deployment of its name. A caller with
    a token has a `workflow`, and `check_token`, which raises a Refusal unless the token opens the deployment of a name.
    """

    password_files: frozenset[str] = frozenset()
    workflow: "Workflow | None" = None
    check_token: Callable[[str], None] | None = None

    def allowed(self, configured: list[str]) -> list[str]:
        """Return those of the configured deployments that the caller may see and change.

        Raises WrongPassword or WorkflowNotAllowed when the caller's token opens none of them.
        """
        refusals = {name: self._refusal(name) for name in configured}
        names = [name for name, refusal in refusals.items() if refusal is None]
        if not names and self.check_token:
            # WorkflowNotAllowed says more, and only a token of the right repository gets it.
            raise next((each for each in refusals.values() if isinstance(each, WorkflowNotAllowed)), WrongPassword())
        return names

    def require(self, name: str | None, configured: list[str]) -> str:
        """Return the name of the deployment that the caller means: the one in the URL, or else the only one.

        Raises WrongPassword for a name that the caller's credentials don't open, whether it is configured or not;
        NotFound for one that isn't configured; BadRequest when the URL names none of several.
        """
        if name is not None and (refusal := self._refusal(name)):
            raise refusal
        if name in configured:
            return name
        names = self.allowed(configured)
        paths = ", ".join(f"/deployment/{each}" for each in names)
        if name is not None:
            raise NotFound(f"no deployment {name} is configured; there is {paths or 'none'}")
        if not names and EVERY_DEPLOYMENT not in self.password_files:
            raise WrongPassword
        if not names:
            raise NotFound("no deployment is configured; put a manifest NAME.yaml into DEPLOYMENTS_DIR")
        if len(configured) > 1:
            raise BadRequest(f"several deployments are configured; name one in the URL: {paths}")
        return names[0]

    def sender(self, name: str) -> tuple[str | None, str | None]:
        """Return who the caller is, as far as the credentials prove it, and where the caller's run can be seen."""
        if self.workflow:
            return self.workflow.by, self.workflow.link
        return f"password {name if name in self.password_files else EVERY_DEPLOYMENT}", None

    def by_password(self, name: str) -> bool:
        """Tell whether a password opens a name, whether it is configured or not."""
        return bool(self.password_files & {EVERY_DEPLOYMENT, name})

    def _refusal(self, name: str) -> Refusal | None:
        if self.by_password(name):
            return None
        if self.check_token is None:
            return WrongPassword()
        try:
            self.check_token(name)
        except Refusal as refusal:
            return refusal
        return None


class Access:
    """Find out what the credentials of a request open."""

    def __init__(self, passwords: Passwords, tokens: "Tokens | None", deployments_dir: Path) -> None:
        self._passwords, self._tokens, self._deployments_dir = passwords, tokens, deployments_dir

    def grants(self, passwords: Iterable[bytes], token: bytes | None) -> Grants:
        """Return what the passwords of a request open, or else its token.

        Raises WrongPassword when none of them opens anything, InvalidToken when the token isn't valid, and Unreachable
        when it can't be checked now.
        """
        if opened := self._passwords.files_with(passwords) - {DOCKER_HUB}:
            return Grants(opened)
        # A token has exactly two dots: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
        if token is None or token.count(b".") != 2:
            raise WrongPassword
        if self._tokens is None:
            log.warning("a token was sent, but without OIDC_AUDIENCE auto-deployer accepts none")
            raise WrongPassword
        workflow = self._tokens.workflow(token)
        try:
            files.configured(self._deployments_dir)
        except NotFound as error:
            # Only the log says why: any user of GitHub can get a valid token for this audience.
            log.warning("no token can open anything: %s", error)
            raise WrongPassword from None
        return Grants(workflow=workflow, check_token=partial(self._check_workflow, workflow))

    def check_docker_hub(self, token: bytes) -> None:
        """Raise WrongPassword unless this is a token of the file for Docker Hub."""
        if DOCKER_HUB not in self._passwords.files_with([token]):
            raise WrongPassword

    def readiness(self) -> tuple[bool, list[str]]:
        """Return whether any credentials can open anything, and a sentence for each problem with the passwords."""
        passwords, problems = self._passwords.read()
        usable = bool(passwords) or self._tokens is not None
        if not usable:
            problems = [*problems, f"there is no usable password in {self._passwords.directory}"]
        return usable, problems

    def _check_workflow(self, workflow: "Workflow", name: str) -> None:
        try:
            known = name in files.configured(self._deployments_dir)
            workflow.check(name, files.load(self._deployments_dir, name).annotations if known else {})
        except (Invalid, WrongPassword) as error:
            who = f"{workflow.repository}, repository id {workflow.repository_id}"
            log.warning("%s, doesn't open %s: %s", who, name, error)
            raise WrongPassword from None
