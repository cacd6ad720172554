"""What is to be seen in the recordings of a kubelet, without what differs from run to run."""

import json
import re
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "recordings" / "kubelet"
RECORDINGS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
REVISION = "deployment.kubernetes.io/revision"
# On the real node a server that has just started refuses the first probe. The simulated one answers at once.
NOT_PLAYED = "connect: connection refused"


def built(differing: dict, version: str) -> dict:
    """Return the spec of a Deployment as it was applied: a recording's `what` has only what differs from this one."""
    differing = dict(differing)
    pod, spec, replicas = differing.pop("pod", {}), differing.pop("spec", {}), differing.pop("replicas", 1)
    container = {"name": "web", "image": "acme/web:1", "imagePullPolicy": "Always", **differing}
    template = {"metadata": {"labels": {"app": "web"}, "annotations": {"version": version}}}
    template["spec"] = {"containers": [container], "terminationGracePeriodSeconds": 2, **pod}
    return {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}


def plain(text: str, meta: dict) -> str:
    """Return a text without what differs from run to run: names, ids, and how long a pull took."""
    for what in ("name", "uid", "namespace"):
        text = text.replace(meta[what], what.upper())
    text = re.sub(r"in [\d.ms]+ \([\d.ms]+ including waiting\). Image size: \d+", "in a while", text)
    return re.sub(r"containerd://[0-9a-f]{64}", "ID", text)


def said(answer: str | dict, meta: dict) -> str | tuple:
    """Return what a log answered: nothing, a sentence or a refusal as it is, and LINES for a program's lines."""
    if isinstance(answer, dict):
        return answer["status"], plain(json.dumps(answer["body"], sort_keys=True), meta)
    return plain(answer, meta) if answer.startswith("unable to retrieve") else "LINES" if answer else ""


def state(pod: dict) -> tuple:
    """Return what is to be seen of a pod, as far as it is the same in each run."""
    meta, status = pod["metadata"], pod["status"]
    conditions = [
        [c["type"], c["status"], c.get("reason"), plain(c.get("message", ""), meta)]
        for c in status.get("conditions", [])
    ]
    containers = []
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        fields = {key: container[key] for key in ("name", "image", "ready", "restartCount", "started")}
        fields["id"] = bool(container.get("containerID")), container["imageID"].partition("@sha256:")[0]
        for key in ("state", "lastState"):
            fields[key] = json.loads(plain(json.dumps(container[key]), meta))
            for times in fields[key].values():
                # Of the times only the one that is no time at all is the same in each run.
                times.pop("finishedAt", None)
                if times.get("startedAt", "")[:4] != "1970":
                    times.pop("startedAt", None)
        containers.append(fields)
    whole = "deletionTimestamp" in meta, status["phase"], status.get("reason"), conditions, containers
    return json.dumps(whole, sort_keys=True)


def recorded_pods(name: str, old: bool = False) -> dict[str, list[str]]:
    """Return the states of each pod of the second version (or of the first) by its name, oldest pod first."""
    objects, timeline = RECORDINGS[name]["objects"], RECORDINGS[name]["timeline"]
    owners = {objects[key]["metadata"]["name"]: objects[key] for point in timeline for key in point["replicasets"]}
    newest = max(owners, key=lambda owner: int(owners[owner]["metadata"]["annotations"][REVISION]))
    found = defaultdict(list)
    for key in (key for point in timeline for key in point["pods"]):
        pod = objects[key]
        if (pod["metadata"]["ownerReferences"][0]["name"] == newest) is not old:
            states = found[pod["metadata"]["name"]]
            if not states or states[-1] != state(pod):
                states.append(state(pod))
    return dict(found)


def places(wanted: list[str], states: list[str]) -> list[int] | None:
    """Return where the wanted states are among these, one after the other; None where one is missing."""
    found, start = [], 0
    for one in wanted:
        if one not in states[start:]:
            return None
        found.append(states.index(one, start))
        start = found[-1] + 1
    return found


def told(events: list[dict], pod: str) -> dict[tuple, dict]:
    """Return the events about a pod by what is the same in each run, in the order in which they first came."""
    found = {}
    for event in sorted(events, key=lambda event: event["metadata"]["name"].rpartition(".")[2]):
        about = event["involvedObject"]
        if about["name"] == pod and NOT_PLAYED not in event["message"]:
            key = event["type"], event["reason"], plain(event["message"], about), about.get("fieldPath")
            if key not in found or event.get("count", 0) > found[key].get("count", 0):
                found[key] = event
    return found
