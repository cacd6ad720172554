"""The rooms import each other in one direction only, and every file stays small."""

import ast

import pytest

from tests.service import ROOT, SOURCES

MODULES = sorted(SOURCES)
# Each part may import itself, the parts before it, and what is added below.
CHAIN = ("errors", "manifest", "deployment_spec", "rollout", "deployer", "web", "app")
ALLOWED = {part: set(CHAIN[: place + 1]) for place, part in enumerate(CHAIN)}
ALLOWED |= {room: {room, "errors", "manifest"} for room in ("access", "cluster")}
ALLOWED |= {"settings": set(), "version": set(), "logs": {"flask"}, "process": set(), "rate": set()}
for part in ("rollout", "deployer", "app"):
    ALLOWED[part] |= {"cluster", "settings"}
for part in ("rollout", "web", "app"):
    ALLOWED[part].add("version")
for part in ("web", "app"):
    ALLOWED[part] |= {"access", "flask"}
for part in ("access", "web"):
    ALLOWED[part].add("rate")
ALLOWED["app"] |= {"logs", "process"}


def name_of(module):
    return str(module.relative_to(ROOT))


MAX_LINES = {name_of(module): ([module], 250) for module in MODULES}
SCRIPTS = [f".github/actions/deploy/{name}.sh" for name in ("deploy", "inputs")]
MAX_LINES |= {name: ([name], most) for name, most in [("README.md", 219), *((script, 199) for script in SCRIPTS)]}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_imports_only_what_comes_before_it(module):
    nodes = list(ast.walk(ast.parse(module.read_text())))
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    ours = {name.partition(".")[0] for name in names} & {*ALLOWED, "flask"}
    assert ours <= ALLOWED[name_of(module).partition("/")[0].removesuffix(".py")]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_function_has_over_50_lines(module):
    functions = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)]
    assert {each.name for each in functions if each.end_lineno - each.lineno >= 50} == set()


@pytest.mark.parametrize("what", MAX_LINES)
def test_a_file_is_short(what):
    files, most = MAX_LINES[what]
    assert sum(len((ROOT / file).read_text().splitlines()) for file in files) <= most


def test_the_product_is_small():
    lines = [line for module in MODULES for line in module.read_text().splitlines()]
    assert len([line for line in lines if line.strip()]) < 5440
