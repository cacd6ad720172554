"""An image's name, as the container tools read it."""

import re
from dataclasses import dataclass

# https://github.com/distribution/reference/blob/main/reference.go
# (but for upper case in a registry's name, which is refused: it is always a slip, and never the registry meant).
_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_DOMAIN = rf"(?:{_HOST}(?:\.{_HOST})*|\[[a-f0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)??(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class ImageReference:
    """Hold the parts of an image's name; `repository` is complete, with the registry that Docker leaves out."""

    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str, tag_required: bool = True) -> "ImageReference":
        """Read `repo:tag`, `repo@sha256:…` or `repo:tag@sha256:…`. Raises ValueError that says what would be valid."""
        found = _REFERENCE.fullmatch(text)
        if not found or len(text) > 512:
            raise ValueError(f"{text[:200]!r} is no image; write repo:tag, repo@sha256:… or repo:tag@sha256:…")
        if tag_required and not (found["tag"] or found["digest"]):
            raise ValueError(f"{text!r} has neither tag nor digest; write {text}:latest if you mean that")
        domain, _, rest = text.partition("/")
        path = found["path"]
        # A first part is a registry only if it can't be a user: https://docs.docker.com/reference/cli/docker/image/tag/
        if rest and (re.search(r"[.:]", domain) or domain == "localhost"):
            path = path.removeprefix(f"{domain}/")
        else:
            domain = DOCKER_HUB
        if domain == "index.docker.io":
            domain = DOCKER_HUB
        if domain == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(f"{domain}/{path}", found["tag"], found["digest"])

    @staticmethod
    def pin(text: str, digest: str) -> str:
        """Return the image's name with a digest in place of its tag, the repository as it was written."""
        bare = text.partition("@")[0]
        repository = bare[: bare.rindex(":")] if ":" in bare.rpartition("/")[2] else bare
        return f"{repository}@{digest}"
