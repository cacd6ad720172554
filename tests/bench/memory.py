"""How much memory a service takes."""

import os
from contextlib import suppress
from pathlib import Path

from tests.service import Service

KIB_PER_MIB = 1024


def processes(service: Service) -> set[int]:
    """Return the ids of the service's processes."""
    # The service has a process group of its own, which its workers share.
    group, found = service.process.pid, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getpgid(int(folder.name)) == group:
                found.add(int(folder.name))
    return found


def memory(service: Service) -> float | None:
    """Return MiB, each shared page counted once; None where the kernel doesn't tell."""
    total = 0
    for process in processes(service):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / KIB_PER_MIB if total else None
