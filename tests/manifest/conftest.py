"""Fixtures for the tests that read manifest files."""

from functools import partial

import pytest

from tests.manifest.samples import write_and_load


@pytest.fixture
def read(tmp_path):
    """Write a manifest file, and read it."""
    return partial(write_and_load, tmp_path)
