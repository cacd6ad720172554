"""List the deployments that are configured, and read their manifest files."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from errors import Invalid, NotFound
from manifest import kubectl_yaml
from manifest.validation import read_deployment

# This service already uses these names, for a path or for a password file.
RESERVED = frozenset({"rollback", "default", "dockerhub"})
SUFFIX = ".yaml"
# Files with this one are ignored, and named.
MISNAMED_SUFFIX = ".yml"
MAX_CACHED_MANIFESTS = 256

# Kubernetes writes here in which namespace this pod runs.
_POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Manifest:
    """Hold a valid manifest; `file` has its suffix, and `body` is the Deployment in it, or None without a spec."""

    file: str
    namespace: str
    name: str
    annotations: dict[str, str]
    body: dict | None

    @property
    def stem(self) -> str:
        """The name by which signals call it."""
        return self.file.removesuffix(SUFFIX)


def configured(directory: Path, suffix: str = SUFFIX) -> list[str]:
    """List the names of the deployments that have a manifest. Raises NotFound when the directory can't be read."""
    try:
        # Kubernetes mounts a ConfigMap with a hidden folder `..data` beside the files.
        files = [path for path in directory.iterdir() if path.suffix == suffix and not path.name.startswith(".")]
    except OSError as error:
        raise NotFound(f"no deployment is configured: {directory} can't be read: {error.strerror}") from None
    return sorted(path.stem for path in files)


def load(directory: Path, name: str) -> Manifest:
    """Read the manifest of a configured deployment. Raises Invalid, which names the file and every wrong field."""
    file = name + SUFFIX
    if name in RESERVED:
        raise Invalid(f"{file}: the name {name} is reserved; rename the file")
    try:
        content = (directory / file).read_bytes()
        namespace = _POD_NAMESPACE_FILE.read_text().strip() if _POD_NAMESPACE_FILE.is_file() else "default"
    except OSError as error:
        raise Invalid(f"{file}: can't be read: {error.strerror}") from None
    return _parsed(file, content, namespace)


# The content is part of the cache's key, so an edited file is parsed again.
@lru_cache(maxsize=MAX_CACHED_MANIFESTS)
def _parsed(file: str, content: bytes, own_namespace: str) -> Manifest:
    try:
        deployment = read_deployment(kubectl_yaml.load(content))
    except RecursionError:
        raise Invalid(f"{file}: is nested too deep, or an anchor in it holds itself") from None
    except ValueError as error:
        raise Invalid("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
    body, metadata = None, deployment.metadata
    if deployment.spec:
        body = deployment.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Manifest(file, metadata.namespace or own_namespace, metadata.name, metadata.annotations or {}, body)
