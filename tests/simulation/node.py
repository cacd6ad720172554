"""What a container does on the node: its image's name decides, by the table BEHAVIOURS."""

from __future__ import annotations

import re
from dataclasses import dataclass

FOREVER = float("inf")
TRACEBACK = """Traceback (most recent call last):
  File "/app/main.py", line 12, in <module>
    main()
  File "/app/main.py", line 7, in main
    url = os.environ['DATABASE_URL']
          ~~~~~~~~~~^^^^^^^^^^^^^^^^
  File "<frozen os>", line 717, in __getitem__
KeyError: 'DATABASE_URL'"""


@dataclass(frozen=True)
class Behaviour:
    """What becomes of a container."""

    fits: bool = True  # the scheduler finds room for it
    pulls: bool = True  # the registry has its image
    secret: str = ""  # the Secret that it lacks
    ends: tuple[int, str] | None = None  # exit code and reason
    after: float = 0.5  # seconds from each start to that end
    ready_after: float = 0  # seconds after its start
    hangs: bool = False  # it does nothing, and doesn't end, even as an init container
    log: tuple[str, ...] = ("listening on :8080",)


BEHAVIOURS = {  # by a word in the image's name
    "missing": Behaviour(pulls=False),
    "crash": Behaviour(ends=(1, "Error"), log=tuple(TRACEBACK.split("\n"))),
    "late": Behaviour(ends=(3, "Error"), after=4, log=("FATAL: lost the database",)),
    "exit0": Behaviour(ends=(0, "Completed"), after=0.1, log=("done",)),
    "broken": Behaviour(ends=(2, "Error"), after=0.1, log=("the broken build behind the same tag",)),
    "oom": Behaviour(ends=(137, "OOMKilled"), log=("loading the model into memory", "loaded 412 of 2048 MiB")),
    "badconfig": Behaviour(secret="missing"),
    "huge": Behaviour(fits=False),
    "unready": Behaviour(ready_after=FOREVER, log=("listening on :8080", "GET /healthz 503 database is not reachable")),
    "slow": Behaviour(ready_after=4.9),
    "hang": Behaviour(hangs=True),
    "": Behaviour(),
}
# What isn't there: a ConfigMap or Secret of this name, a path that a probe asks for, a program in this folder.
NO_NAME, NO_PATH, NO_PROGRAM = "nope", "/nope", "/no/such/"
ROOT_IMAGE = "acme/web"  # runs as root; whom other images run as isn't known


def behaviour(image: str, digest: str, known: dict[str, str], command: list[str] | None = None) -> Behaviour:
    """Return what an image does; its command, and what a test says about its digest or the image, count more."""
    if command and any("while" in word for word in command):
        return BEHAVIOURS["hang"]
    name = image.partition("@")[0]
    by_name = next(word for word in BEHAVIOURS if not word or re.search(rf"(?<![a-z]){word}(?![a-z])", name))
    return BEHAVIOURS[known.get(digest, known.get(image, by_name))]


def full_name(image: str) -> str:
    """Return the name of an image as the container runtime writes it."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = "docker.io/library/" + image
    elif not ("." in first or ":" in first or first == "localhost"):
        image = "docker.io/" + image
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


def repository(image: str) -> str:
    """Return the full name of an image without tag and digest."""
    return re.sub(r":[^/:]*$", "", full_name(image).partition("@")[0])


def pull_refusal(image: str, does: Behaviour) -> str:
    """Return why an image can't be pulled, or nothing: no registry serves on this machine itself."""
    full = full_name(image)
    host, _, path = repository(image).partition("/")
    failed = f'failed to pull and unpack image "{full}": failed to resolve image: '
    if host.startswith("127.0.0.1"):
        asked = f"https://{host}/v2/{path}/manifests/{full.removeprefix(f'{host}/{path}')[1:]}"
        return f'{failed}failed to do request: Head "{asked}": dial tcp {host}: connect: connection refused'
    return "" if does.pulls else f"rpc error: code = NotFound desc = {failed}{full}: not found"
