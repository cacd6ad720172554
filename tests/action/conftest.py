"""The service that the action signals, and the runner that its script runs in, with a password or with a token."""

import pytest

from tests.access.issuer import AUDIENCE, REPOSITORY_ID
from tests.action.runner import Runner
from tests.conftest import deployment


@pytest.fixture
def service(quick_service):
    return quick_service


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


@pytest.fixture
def job(issuer, tmp_path):
    """Run in a job that has the permission `id-token: write`."""
    asking = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{issuer.url}/token?api-version=2.0"}
    return Runner(tmp_path, asking | {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "a-token-for-a-token"})


@pytest.fixture
def open_service(services, issuer, cluster):
    """Serve without a password: the manifest names the workflow."""
    service = services(OIDC_AUDIENCE=AUDIENCE, OIDC_ISSUER=issuer.url, SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    service.password("default")
    manifest = deployment()
    annotations = {"auto-deployer/github-repository-id": REPOSITORY_ID, "auto-deployer/github-ref": "refs/heads/master"}
    manifest["metadata"]["annotations"] = annotations
    service.configure("web", manifest)
    return service
