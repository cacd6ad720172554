"""What differs between two pod templates, in words for a public log: no value of a variable. It makes no call."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

NO_DIGESTS: Mapping[str, str] = MappingProxyType({})
# `sha256:` and twelve digits, as container tools show a digest.
DIGEST_CHARACTERS = 19


def changes(
    old: dict, new: dict, old_digests: Mapping[str, str] = NO_DIGESTS, new_digests: Mapping[str, str] = NO_DIGESTS
) -> tuple[str, ...]:
    """List what changed from one pod template to another: images, commands, resources, probes, names of variables.

    The digests are those that ran, by container: they show a tag that was moved.
    """
    before, after = _containers(old), _containers(new)
    several = len(before | after) > 1
    lines = []
    for name in before | after:
        prefix = f"{name}: " if several else ""
        if name not in after:
            lines.append(f"container {name} is gone")
        elif name not in before:
            lines.append(f"container {name} is new, image {after[name].get('image')}")
        else:
            images = (each[name].get("image") or "" for each in (before, after))
            found = [*_image_changes(*images, old_digests.get(name), new_digests.get(name))]
            lines += [prefix + line for line in (*found, *_container_changes(before[name], after[name]))]
    return (*lines, *_pod_changes(old.get("spec", {}), new.get("spec", {})))


def _containers(template: dict) -> dict[str, dict]:
    spec = template.get("spec", {})
    return {each["name"]: each for each in [*spec.get("containers", []), *spec.get("initContainers", [])]}


def _image_changes(old: str, new: str, old_digest: str | None, new_digest: str | None) -> Iterator[str]:
    # The name that a rollback pins to the digest that ran is no change; a tag that was moved is one.
    if old != new and not (old_digest and new.endswith(f"@{old_digest}")):
        yield f"image: {old} -> {new}"
    if old == new and old_digest and new_digest and old_digest != new_digest:
        yield f"image {new}: {old_digest[:DIGEST_CHARACTERS]} -> {new_digest[:DIGEST_CHARACTERS]}"


def _container_changes(old: dict, new: dict) -> Iterator[str]:
    for field in ("command", "args"):
        if old.get(field) != new.get(field):
            # A command line may carry a password.
            yield f"{field} changed"
    for kind in ("requests", "limits"):
        before, after = (each.get("resources", {}).get(kind, {}) for each in (old, new))
        for name in sorted(before | after):
            if before.get(name) != after.get(name):
                yield f"{kind}.{name}: {before.get(name, 'none')} -> {after.get(name, 'none')}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if old.get(probe) != new.get(probe):
            yield f"{probe} {_verb(old.get(probe), new.get(probe))}"
    before, after = ({each["name"]: each for each in container.get("env", [])} for container in (old, new))
    for name in sorted(before | after):
        if before.get(name) != after.get(name):
            yield f"env {name} {_verb(before.get(name), after.get(name))}"
    named = {"command", "args", "env", "image", "name", "resources", "startupProbe", "readinessProbe", "livenessProbe"}
    for field in sorted((old.keys() | new.keys()) - named):
        if old.get(field) != new.get(field):
            yield f"{field} {_verb(old.get(field), new.get(field))}"


def _pod_changes(old: dict, new: dict) -> Iterator[str]:
    for field in sorted((old.keys() | new.keys()) - {"containers", "initContainers"}):
        if old.get(field) != new.get(field):
            yield f"{field} {_verb(old.get(field), new.get(field))}"


def _verb(old: object, new: object) -> str:
    return "added" if old is None else "removed" if new is None else "changed"
