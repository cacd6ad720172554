"""Read the name of an image as Docker and the kubelet read it."""

import re
from dataclasses import dataclass

# The grammar: https://github.com/distribution/reference/blob/main/reference.go
# Unlike there, a registry's name may hold no upper case: that is always a typing error.
_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_DOMAIN = rf"(?:{_HOST}(?:\.{_HOST})*|\[[a-f0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)??(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
MAX_REFERENCE_CHARACTERS = 512
DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class ImageReference:
    """Hold the parts of an image's name; `repository` always begins with the registry, also where the name has none."""

    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str, tag_required: bool = True) -> "ImageReference":
        """Read `repo:tag`, `repo@sha256:…` or `repo:tag@sha256:…`. Raises ValueError that says what would be valid."""
        found = _REFERENCE.fullmatch(text)
        if not found or len(text) > MAX_REFERENCE_CHARACTERS:
            raise ValueError(f"{text[:200]!r} is no image; write repo:tag, repo@sha256:… or repo:tag@sha256:…")
        if tag_required and not (found["tag"] or found["digest"]):
            raise ValueError(f"{text!r} has neither tag nor digest; write {text}:latest if you mean that")
        first, _, rest = text.partition("/")
        # The first part is a registry only if it can't be the name of a user on Docker Hub:
        # https://docs.docker.com/reference/cli/docker/image/tag/
        has_registry = rest and (re.search(r"[.:]", first) or first == "localhost")
        registry = first if has_registry and first != "index.docker.io" else DOCKER_HUB
        path = found["path"].removeprefix(f"{first}/") if has_registry else found["path"]
        if registry == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(f"{registry}/{path}", found["tag"], found["digest"])

    @staticmethod
    def pin(text: str, digest: str) -> str:
        """Return the image's name with a digest in place of its tag; the repository stays as it was written."""
        # A colon before the last slash belongs to the port of a registry.
        repository = re.sub(r"(:[^:/@]+)?(@.+)?$", "", text)
        return f"{repository}@{digest}"


def repository_of(image: str) -> str | None:
    """Return the repository of an image, with its registry; None for a text that is no image."""
    try:
        return ImageReference.parse(image, tag_required=False).repository
    except ValueError:
        return None
