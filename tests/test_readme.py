"""README.md, docs/ and the code say the same."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from app import create_app
from manifest import annotations
from rollout.metrics import Metrics
from settings import Settings
from tests.conftest import deployment
from tests.service import ROOMS, ROOT, SOURCES
from web.answers import STATUS_OF

PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
TEXT = "\n".join(PAGES.values())
# With those that only link to the others.
ALL_PAGES = {path: path.read_text() for path in (*ROOT.glob("*.md"), *PAGES)}
# In an answer of the service: what each run has anew.
NEW_EACH_TIME = (r"\b[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\b", r"\bsha256:[0-9a-f]{64}\b", r"\bweb-[a-z0-9]+-[a-z0-9]{5}\b")
ACTION = yaml.safe_load((ROOT / ".github/actions/deploy/action.yml").read_text())


def section(title: str) -> str:
    """Return what stands under a heading, which only one page has."""
    found = [re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text) for text in PAGES.values()]
    [under] = [each[1] for each in found if each]
    return under


def table(title: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose first head is given."""
    lines = section(title).split(f"| {head} |", 1)[1].splitlines()[2:]
    rows = lines[: next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def code_blocks(language: str, text: str = TEXT) -> list[str]:
    """Return the blocks in a language, without the indent that they have in a list."""
    found = re.findall(r"(?ms)^( *)```(\w*)\n(.*?)^\1```", text)
    return [re.sub(rf"(?m)^{indent}", "", block) for indent, its_language, block in found if its_language == language]


def curls(text: str) -> list[tuple[str, str, dict]]:
    """Return the method, path and fields of each curl command that names its URL."""
    found = []
    for line in "\n".join(code_blocks("sh", text)).splitlines():
        if url := re.search(r"https?://(?:deploy\.example\.com|127\.0\.0\.1:8080)(/[\w/]*)", line):
            words = shlex.split(line)
            data = words[words.index("-d") + 1] if "-d" in words else None
            if words[0] == "curl":
                found.append(("POST" if data else "GET", url[1], json.loads(data or "{}")))
    return found


def anchors(text: str) -> set[str]:
    """Return the fragments that GitHub makes of a page's headings."""
    titles = re.findall(r"(?m)^#+ (.+)$", without_code(text))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^( *)```.*?^\1```", "", text)


def documented_routes() -> set[tuple[str, str]]:
    found = set()
    for cell, *_ in table("HTTP in short", "request"):
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


@pytest.mark.parametrize("row", [row[0] for row in table("From message to action", "it says")])
def test_sentences(row):
    """Every sentence that is explained is one that the code says."""
    said = [
        node.value
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    if row.endswith("(the action)"):
        said = [script.read_text() for script in (ROOT / ".github/actions/deploy").glob("*.sh")]
    quoted = re.match(r"`([^`]+)`", row)[1]
    for fragment in filter(None, (part.strip(" .;:") for part in quoted.split("…"))):
        assert any(fragment in sentence for sentence in said), fragment


def test_fields_and_statuses():
    """openapi.yaml is held to the code, and so the tables to openapi.yaml."""
    spec = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    schemas = spec["components"]["schemas"]
    known = set(schemas["Signal"]["properties"]) | set(schemas["RollbackSignal"]["properties"])
    assert {name.strip("`") for name, _ in table("HTTP in short", "field")} == known
    operations = [spec["paths"][path][method] for path, method in (("/deployment", "post"), ("/deployment", "get"))]
    statuses = set().union(*(operation["responses"] for operation in operations))
    assert {status for cell, _ in table("HTTP in short", "status") for status in cell.split(", ")} == statuses


def test_the_workflows():
    blocks = [yaml.safe_load(block) for block in code_blocks("yaml")]
    # The same major versions as this repository's own workflow, which is kept up to date.
    own = (ROOT / ".github" / "workflows" / "dockerize.yml").read_text()
    pinned = dict(re.findall(r"uses: (\S+)@\w+ # (v\d+)", own))
    for action, version in re.findall(r"uses: (\S+)@(v\d+)", TEXT):
        assert pinned.get(action, version) == version
    steps = [step for block in blocks if isinstance(block, list) for step in block]
    steps += [step for block in blocks if "jobs" in block for job in block["jobs"].values() for step in job["steps"]]
    deploys = [step for step in steps if "/.github/actions/deploy" in step.get("uses", "")]
    assert len(deploys) == 7
    for step in deploys:
        assert set(step["with"]) <= set(ACTION["inputs"])
    # The step of "Self-deploy" is that of the workflow, and the table there has what it reads.
    assert yaml.safe_load(own)["jobs"]["dockerize"]["steps"][-1] in deploys
    documented = {name.strip("`") for _, name, _ in table("Self-deploy", "| name")}
    assert documented == set(re.findall(r"\b(?:vars|secrets)\.(\w+)", own))


def test_the_actions_inputs_and_outputs():
    documented = {name.strip("`"): default.strip("`") for name, default, _ in table("The action", "input")}
    words = {"url": "", "audience": "the `url", "cause": "the commit"}
    assert documented == {
        name: words.get(name, each.get("default") or "none") for name, each in ACTION["inputs"].items()
    }
    [outputs] = re.findall(r"Its outputs are (.*?)\.", section("The action"), re.DOTALL)
    assert re.findall(r"`([\w-]+)`", outputs) == list(ACTION["outputs"])


def test_annotations():
    for annotation in (annotations.GITHUB_REPOSITORY_ID, annotations.GITHUB_REF, annotations.GITHUB_ENVIRONMENT):
        assert annotation in section("The action")


def test_files_that_are_named_exist():
    examples = {"NAME.yaml"}
    folders = "|".join(["k8s", "tests", "docs", r"\.github", *ROOMS])
    for name in re.findall(rf"`((?:{folders})/[\w./-]*|[\w-]+\.(?:py|yaml))`", TEXT):
        assert name in examples or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda path: path.name)
def test_links(page):
    """Every link within the repository leads to a file, and to a heading in it."""
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(ALL_PAGES[page])):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_file(), target
        assert not fragment or fragment in anchors(path.read_text()), target


def test_the_readme_is_short():
    assert len(PAGES[ROOT / "README.md"].splitlines()) < 224


def test_commands(tmp_path):
    """Every `make` has its target, and every curl command a route and fields that there are."""
    targets = re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text())
    for text in ALL_PAGES.values():
        for command in [*code_blocks("sh", text), *re.findall(r"`([^`\n]+)`", without_code(text))]:
            assert set(re.findall(r"\bmake ([a-z]+)", command)) <= set(targets)
    app = create_app({"DEPLOYMENTS_DIR": str(tmp_path), "PASSWORDS_DIR": str(tmp_path)})
    fields = {name.strip("`") for name, _ in table("HTTP in short", "field")}
    commands = curls(TEXT)
    assert len(commands) == 11
    for method, path, given in commands:
        app.url_map.bind("").match(path, method)
        assert given.keys() <= fields


@pytest.mark.simulated_only
def test_the_quick_start_answers_as_it_says(patient_service, cluster):
    """Its commands, run one after the other, get the answers that stand below them."""
    manifest = (ROOT / "k8s/deployments/web.yaml").read_text()
    patient_service.configure("web", manifest.replace("namespace: default", f"namespace: {cluster.namespace}"))
    story = section("Quick start")
    answers = code_blocks("", story)
    for (method, path, given), expected in zip(curls(story), answers, strict=True):
        answer = patient_service.ask(method, path, given | {"pw": patient_service.right})
        assert neutral(answer.text.replace(cluster.namespace, "default")) == neutral(expected)


@pytest.mark.simulated_only
@pytest.mark.parametrize(
    ("password", "image", "code", "said"),
    [
        (None, "acme/web:1", 0, "ok: revision 1 of web in "),
        (None, "acme/web:crash", 1, "failed: revision 1 of web does not start"),
        ("wrong", "acme/web:1", 1, '{"error":"wrong or missing password","reason":"WrongPassword"}'),
    ],
)
def test_the_script_for_curl_ends_with_the_verdict(patient_service, cluster, password, image, code, said):
    patient_service.configure("web", deployment(image=image, namespace=cluster.namespace))
    [script] = [block for block in code_blocks("sh", section("curl")) if "\n" in block.strip()]
    script = script.replace("https://deploy.example.com", patient_service.url)
    environ = {"PATH": os.environ["PATH"], "PASSWORD": password or patient_service.right}
    ran = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout[: len(said)]) == (code, said)


def neutral(answer: str) -> str:
    for each in NEW_EACH_TIME:
        answer = re.sub(each, "…", answer)
    return answer


def test_phases():
    documented = {phase.strip("`"): int(status) for phase, status, _ in table("Did it work?", "phase")}
    assert documented == {phase.value: status for phase, status in STATUS_OF.items()}


def test_metrics():
    documented = {re.match(r"`(\w+)", cell)[1] for cell, _ in table("Metrics", "metric")}
    assert documented == set(re.findall(r"(?m)^# TYPE (\w+)", Metrics().text().decode()))


def test_the_command_for_a_real_cluster_names_a_kubeconfig_that_is_not_there():
    commands = code_blocks("sh", ALL_PAGES[ROOT / "CONTRIBUTING.md"])[0].splitlines()
    [command] = [shlex.split(each, comments=True) for each in commands if "--kubeconfig" in each]
    assert command[0] == ".venv/bin/python"
    ran = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "there is no file path/to/kubeconfig;" in ran.stderr


def test_the_reasons():
    """Every reason that is explained is one that the code knows, or that a kubelet reported."""
    known = "".join(path.read_text() for path in [*SOURCES, *(ROOT / "tests/recordings").rglob("*.json")])
    for cell, _ in table("From reason to action", "reason"):
        for reason in re.findall(r"`(\w+)`", cell):
            assert f'"{reason}"' in known, reason


def test_the_rooms():
    """The picture of the layout in docs/architecture.md has each module, and no other."""
    pictured, room = [], ""
    for line in code_blocks("", PAGES[ROOT / "docs/architecture.md"])[0].splitlines():
        if folder := re.match(r"\w+/", line):
            room = folder[0]
        elif module := re.match(r"( *)(\w+\.py)", line):
            pictured.append(room + module[2] if module[1] else module[2])
    modules = [str(path.relative_to(ROOT)) for path in SOURCES if path.name != "__init__.py"]
    assert sorted(pictured) == sorted(modules)
