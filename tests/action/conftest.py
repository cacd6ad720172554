"""The service that the action signals, and the runner that its script runs in."""

import pytest

from tests.action.runner import Runner


@pytest.fixture
def service(quick_service):
    return quick_service


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)
