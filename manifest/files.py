"""Which deployments are configured, and what their manifest files say."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kubernetes.client import V1Deployment

from errors import Invalid, NotFound
from manifest import kubectl_yaml
from manifest.annotations import annotations_of
from manifest.validation import problems_of, without_server_fields

RESERVED = frozenset({"rollback", "default", "dockerhub"})
SUFFIX = ".yaml"

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Manifest:
    """Hold a manifest that was read and found good; `body` is the Deployment in it, None where it has no spec."""

    # With its suffix, as messages name it.
    file: str
    namespace: str
    name: str
    annotations: dict[str, str]
    body: dict | None


def configured(directory: Path) -> list[str]:
    """List the names of the deployments that have a manifest. Raises NotFound when the directory can't be read."""
    try:
        # `..data` and its like belong to the mount of a ConfigMap.
        files = [path for path in directory.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".")]
    except OSError as error:
        raise NotFound(f"no deployment is configured: {directory} can't be read: {error.strerror}") from None
    return sorted(path.stem for path in files)


def load(directory: Path, name: str) -> Manifest:
    """Read the manifest of a configured deployment. Raises Invalid, which names file, field and all that is wrong."""
    file = name + SUFFIX
    if name in RESERVED:
        raise Invalid(f"{file}: the name {name} is reserved; rename the file")
    try:
        content = (directory / file).read_bytes()
        namespace = _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else "default"
    except OSError as error:
        raise Invalid(f"{file}: can't be read: {error.strerror}") from None
    return _parsed(file, content, namespace)


# By content: the same bytes are read into a Manifest once, and an edited file is read anew.
@lru_cache(maxsize=256)
def _parsed(file: str, content: bytes, namespace: str) -> Manifest:
    try:
        document = kubectl_yaml.load(content)
    except ValueError as error:
        raise Invalid(f"{file}: {error}") from None
    try:
        document = without_server_fields(document)
        problems = [f"{file}: {problem}" for problem in problems_of(document)]
    except RecursionError:
        raise Invalid(f"{file}: is nested too deep, or an anchor in it holds itself") from None
    if problems:
        raise Invalid("\n".join(problems))
    metadata = document["metadata"]
    body = None
    if "spec" in document:
        body = V1Deployment.model_validate(document).model_dump(mode="json", by_alias=True, exclude_none=True)
    return Manifest(
        file=file,
        namespace=metadata.get("namespace") or namespace,
        name=metadata["name"],
        annotations=annotations_of(document),
        body=body,
    )
