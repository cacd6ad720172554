"""Which version runs. pyproject.toml has it, and no other file."""

import platform
import tomllib
from importlib import metadata
from pathlib import Path

VERSION: str = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]["version"]
PYTHON = platform.python_version()
KUBERNETES_CLIENT = metadata.version("kubernetes")
