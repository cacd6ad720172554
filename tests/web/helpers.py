"""What several tests of the HTTP side need."""

import base64
import json

from tests.service import PASSWORD

DIGEST = "sha256:" + "0123456789abcdef" * 4
WRONG_PASSWORD = "wrong or missing password"
PW = json.dumps({"pw": PASSWORD})


def template(live: dict) -> dict:
    """Return the pod template of a Deployment."""
    return live["spec"]["template"]


def rollout_id(live: dict) -> str:
    """Return the rollout id on the pod template of a Deployment."""
    return template(live)["metadata"]["annotations"]["auto-deployer/restartedAt"]


def images(live: dict) -> list[str]:
    """Return the images of a Deployment's containers."""
    return [each["image"] for each in template(live)["spec"]["containers"]]


def basic(password: str, user: str = "user") -> str:
    """Return an Authorization header of HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
