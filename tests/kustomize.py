"""Does what `kubectl kustomize` does, as far as our kustomization.yaml files go: not every machine has kubectl."""

import re
from pathlib import Path

import yaml


def render(folder: Path, base: Path | None = None) -> list[dict]:
    """Return the objects of a folder; `base` stands for the one that it names by URL."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    documents = []
    for name in kustomization["resources"]:
        documents += render(base) if name.startswith("https://") else yaml.safe_load_all((folder / name).read_text())
    for generator in kustomization["configMapGenerator"]:
        _generate(folder, generator, documents)
    for image in kustomization["images"]:
        _rename(image, documents)
    for patch in kustomization.get("patches", []):
        targets = [document for document in documents if _is_target(patch["target"], document)]
        assert targets, f"a patch changes nothing: {patch}"
        for document in targets:
            for operation in yaml.safe_load(patch["patch"]):
                _apply(operation, document)
    return documents


def _generate(folder: Path, generator: dict, documents: list[dict]) -> None:
    metadata = {key: generator[key] for key in ("name", "namespace")} | {"labels": generator["options"]["labels"]}
    assert generator["options"]["disableNameSuffixHash"] is True
    data = {Path(file).name: (folder / file).read_text() for file in generator["files"]}
    same = [each for each in documents if each["kind"] == "ConfigMap" and each["metadata"]["name"] == metadata["name"]]
    assert len(same) == (generator.get("behavior") == "replace")
    for document in same:
        documents.remove(document)
    documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _rename(image: dict, documents: list[dict]) -> None:
    for document in documents:
        if document["kind"] == "Deployment":
            for container in document["spec"]["template"]["spec"]["containers"]:
                if container["image"].rpartition(":")[0] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"


def _is_target(target: dict, document: dict) -> bool:
    found = {"kind": document["kind"]} | document["metadata"]
    return all(re.fullmatch(pattern, found.get(key, "")) for key, pattern in target.items())


def _apply(operation: dict, document: dict) -> None:
    *parents, last = operation["path"].split("/")[1:]
    place = document
    for step in parents:
        place = place[int(step) if isinstance(place, list) else step]
    key = int(last) if isinstance(place, list) else last
    assert operation["op"] == "add" or place[key] is not None
    place[key] = operation["value"]
