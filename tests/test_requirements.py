"""The packages: what we name, what is installed, and what each of them is for."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.service import ROOT


def direct(name: str) -> dict[str, str]:
    """Return the version of each package that an .in file names, and hold it to be exact."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            package = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z]+\])?==([0-9a-z.]+)", line)
            assert package, line
            found[package[1]] = package[2]
    return found


def compiled(name: str) -> dict[str, str]:
    """Return the version of each package of a compiled file, and hold it to have hashes."""
    text = re.sub(r"(?m)^ *#.*\n", "", (ROOT / name).read_text()).replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        package = re.fullmatch(r"([a-z0-9-]+)==([0-9a-z.]+)(?: ; [^#]+?)?(?: +--hash=sha256:[0-9a-f]{64})+ *", line)
        assert package, line
        assert package[1] not in found
        found[package[1]] = package[2]
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_what_is_installed_is_compiled_from_what_is_named(name):
    text = (ROOT / f"{name}.txt").read_text()
    assert direct(f"{name}.in").items() <= compiled(f"{name}.txt").items()
    # A package that was taken out of the .in file is gone from the other one, too.
    assert text.count(f" -r {name}.in\n") == len(direct(f"{name}.in"))
    # The options are there for Dependabot. An index's address or a path would be that of one machine.
    command = "uv pip compile --universal --python-version 3.11 --generate-hashes"
    assert text.splitlines()[1] == f"#    {command} --output-file {name}.txt {name}.in"
    assert f"$(compile) --output-file {name}.txt {name}.in\n" in (ROOT / "Makefile").read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links|@ ", text)


def test_tests_run_with_the_versions_of_the_image():
    assert compiled("requirements.txt").items() <= compiled("requirements-dev.txt").items()


def imports(path: Path) -> set[str]:
    """Return the names of the packages that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in found}


def modules() -> dict[str, set[str]]:
    """Return the packages that are installed by the name that is imported."""
    return {
        name: {package.lower().replace("_", "-") for package in packages}
        for name, packages in packages_distributions().items()
    }


def test_each_package_that_is_named_is_imported_and_the_other_way_round():
    sources = [path for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/*.py")] if path.parent.name != "tests"]
    imported = set().union(*map(imports, sources))
    # uWSGI imports our code.
    assert set().union({"uwsgi"}, *(modules().get(name, ()) for name in imported)) == set(direct("requirements.in"))


def test_make_run_and_make_bench_need_only_what_the_image_has():
    later = compiled("requirements-dev.txt").keys() - compiled("requirements.txt").keys()
    blocked = [name for name, packages in modules().items() if packages & later]
    assert "pytest" in blocked
    for module in ("tests.run", "tests.bench"):
        program = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {module}"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
