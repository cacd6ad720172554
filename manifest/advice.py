"""What a Deployment leaves out, though it works without: /check advises it. It makes no call."""

from manifest.image_reference import ImageReference


def advise(live: dict) -> list[str]:
    """Return a sentence for each piece of advice on a Deployment as the API server answered it, with its defaults."""
    containers = live["spec"]["template"]["spec"]["containers"]
    advice = [sentence for container in containers for sentence in _on_container(container)]
    if not live["spec"].get("minReadySeconds") and not all(each.get("readinessProbe") for each in containers):
        advice.append(
            "minReadySeconds is 0, and there is a container without a readiness probe: "
            "a version that crashes takes down the pods that work; set minReadySeconds to 10 or more"
        )
    return advice


def _on_container(container: dict) -> list[str]:
    name, image, policy = container["name"], container["image"], container.get("imagePullPolicy")
    advice = []
    if not container.get("readinessProbe"):
        advice.append(
            f"container {name} has no readiness probe, so Kubernetes sends it requests as soon as it runs; "
            "add a readinessProbe"
        )
    if not container.get("resources", {}).get("requests"):
        advice.append(
            f"container {name} has no resource requests, so Kubernetes can't tell whether a node has room for it; "
            "add resources.requests"
        )
    if _is_latest(image) and policy != "Always":
        advice.append(
            f"container {name} runs {image} with imagePullPolicy {policy}, so a node that has an older image of this "
            "tag doesn't pull the new one; set imagePullPolicy: Always"
        )
    return advice


def _is_latest(image: str) -> bool:
    try:
        reference = ImageReference.parse(image, tag_required=False)
    except ValueError:
        return False  # It isn't ours to judge: the kubelet refuses it.
    return reference.digest is None and reference.tag in (None, "latest")
