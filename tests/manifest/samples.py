"""Manifests and pod templates that several tests use, and what this service makes of them."""

from deployment_spec import Signal, build
from manifest.files import load

DIGEST = "sha256:" + "0123456789abcdef" * 4
NEW_ID = "20261122T201503.123456Z"
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
        - name: web
          image: acme/web:1
"""
WITHOUT_SPEC = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: team\n"
# This pod template ran before, and a rollback brings it back.
FORMER = {
    "metadata": {
        "creationTimestamp": None,
        "labels": {"app": "web"},
        "annotations": {"scrape": "yes", "auto-deployer/restartedAt": "20261121T201503.123456Z"},
    },
    "spec": {
        "initContainers": [{"name": "migrate", "image": "acme/web:latest"}],
        "containers": [
            {"name": "web", "image": "acme/web:latest", "env": [{"name": "A", "value": "1"}]},
            {"name": "proxy", "image": "envoy:1"},
        ],
    },
}
DIGESTS = {"web": DIGEST, "migrate": DIGEST}
PINNED = {"web": f"acme/web@{DIGEST}", "migrate": f"acme/web@{DIGEST}", "proxy": "envoy:1"}


def write_and_load(folder, content, name="web"):
    """Write a manifest file, and read it."""
    content = content if isinstance(content, bytes) else content.encode()
    (folder / f"{name}.yaml").write_bytes(content)
    return load(folder, name)


def changed(old, new):
    """Return the manifest with one part replaced."""
    assert old in MANIFEST
    return MANIFEST.replace(old, new)


def in_container(yaml):
    """Return the manifest with one more line in its container."""
    return MANIFEST + f"          {yaml}\n"


def sent(manifest, live=None, settle_seconds=0, **fields):
    """Return what goes to the API server, as JSON."""
    body = build(manifest, Signal(**fields), NEW_ID, live, settle_seconds)
    return body if isinstance(body, dict) else body.model_dump(mode="json", by_alias=True, exclude_none=True)


def container(body, index=0, of="containers"):
    """Return one container of what is sent."""
    return body["spec"]["template"]["spec"][of][index]


def live(image="acme/web:1", **spec):
    """Return a live Deployment."""
    pod = {"containers": [{"name": "web", "image": image}, {"name": "proxy", "image": "envoy:1"}]}
    return {"spec": {"replicas": 5, "template": {"metadata": {}, "spec": pod}} | spec}


def images(template):
    """Return the images of a pod template, as container -> image."""
    containers = [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]
    return {each["name"]: each["image"] for each in containers}
