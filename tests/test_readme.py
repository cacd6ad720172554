"""README.md and the code say the same."""

import ast
import re
from dataclasses import fields

import pytest
import yaml

import settings
from app import create_app
from manifest import annotations
from settings import Settings
from tests.service import ROOT, SOURCES

TEXT = (ROOT / "README.md").read_text()
ACTION = yaml.safe_load((ROOT / ".github/actions/deploy/action.yml").read_text())


def section(title: str) -> str:
    """Return what stands under a heading."""
    return re.search(rf"(?ms)^## {title}\n(.*?)(?=^## |\Z)", TEXT)[1]


def table(title: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose first head is given."""
    lines = section(title).split(f"| {head} |", 1)[1].splitlines()[2:]
    rows = lines[: next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def code_blocks(language: str) -> list[str]:
    """Return the blocks in a language, without the indent that they have in a list."""
    found = re.findall(rf"(?ms)^( *)```{language}\n(.*?)^\1```", TEXT)
    return [re.sub(rf"(?m)^{indent}", "", block) for indent, block in found]


def documented_routes() -> set[tuple[str, str]]:
    found = set()
    for cell, *_ in table("API", "request"):
        method, path = cell.strip("`").split()
        found |= {(method, path.replace("[/NAME]", name)) for name in ("", "/NAME")}
    return found


def test_routes(tmp_path):
    app = create_app({"DEPLOYMENTS_DIR": str(tmp_path), "PASSWORDS_DIR": str(tmp_path)})
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", lambda found: found[1].upper(), rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert documented_routes() == routes


def test_settings():
    documented = {variable.strip("`"): default.strip("`") for variable, default, _ in table("Settings", "variable")}
    defaults = {field.name.upper(): field.default for field in fields(Settings)}
    written = {bool: lambda value: str(value).lower(), type(None): lambda _: "none"}
    assert documented == {name: written.get(type(value), str)(value) for name, value in defaults.items()}
    assert set(documented) == set(settings._READERS)


@pytest.mark.parametrize("row", [row[0] for row in table("When something is wrong", "it says")])
def test_sentences(row):
    """Every sentence that is explained is one that the code says."""
    said = [
        node.value
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    quoted = re.match(r"`([^`]+)`", row)[1]
    for fragment in filter(None, (part.strip(" .;:") for part in quoted.split("…"))):
        assert any(fragment in sentence for sentence in said), fragment


def test_fields_and_statuses():
    """openapi.yaml is held to the code, and so README to openapi.yaml."""
    spec = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    schemas = spec["components"]["schemas"]
    known = set(schemas["Signal"]["properties"]) | set(schemas["RollbackSignal"]["properties"])
    assert {name.strip("`") for name, _ in table("API", "field")} == known
    operations = [spec["paths"][path][method] for path, method in (("/deployment", "post"), ("/deployment", "get"))]
    statuses = set().union(*(operation["responses"] for operation in operations))
    assert {status for cell, _ in table("API", "status") for status in cell.split(", ")} == statuses


def test_the_workflows():
    blocks = [yaml.safe_load(block) for block in code_blocks("yaml")]
    # The same major versions as this repository's own workflow, which is kept up to date.
    own = (ROOT / ".github" / "workflows" / "dockerize.yml").read_text()
    pinned = dict(re.findall(r"uses: (\S+)@\w+ # (v\d+)", own))
    for action, version in re.findall(r"uses: (\S+)@(v\d+)", TEXT):
        assert pinned.get(action, version) == version
    steps = [step for block in blocks if isinstance(block, list) for step in block]
    steps += [step for block in blocks if "jobs" in block for step in block["jobs"]["dockerize"]["steps"]]
    deploys = [step["with"] for step in steps if "/.github/actions/deploy@" in step.get("uses", "")]
    assert len(deploys) == 4
    for given in deploys:
        assert set(given) <= set(ACTION["inputs"])


def test_the_actions_inputs_and_outputs():
    documented = {name.strip("`"): default.strip("`") for name, default, _ in table("In GitHub Actions", "input")}
    words = {"url": "", "audience": "the `url", "cause": "the commit"}
    assert documented == {
        name: words.get(name, each.get("default") or "none") for name, each in ACTION["inputs"].items()
    }
    [outputs] = re.findall(r"Its outputs are (.*?)\.", section("In GitHub Actions"), re.DOTALL)
    assert re.findall(r"`([\w-]+)`", outputs) == list(ACTION["outputs"])


def test_annotations():
    for annotation in (annotations.GITHUB_REPOSITORY_ID, annotations.GITHUB_REF, annotations.GITHUB_ENVIRONMENT):
        assert annotation in section("In GitHub Actions")


def test_files_that_are_named_exist():
    examples = {"api.yaml", "NAME.yaml"}
    for name in re.findall(r"`((?:k8s|tests|rollout|\.github)/[\w./-]*|[\w-]+\.(?:py|yaml))`", TEXT):
        assert name in examples or (ROOT / name).exists(), name
