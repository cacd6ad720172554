"""How much memory and processor time a service takes."""

import os
import threading
from collections.abc import Callable
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
    return _sum(service, "Pss:")


def own_memory(service: Service) -> float | None:
    """Return MiB without the pages of files, which count less the more programs of the machine share them."""
    return _sum(service, "Pss_Anon:")


def _sum(service: Service, field: str) -> float | None:
    total = 0
    for process in processes(service):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(field))
    return total / KIB_PER_MIB if total else None


def most_memory(service: Service, do: Callable[[], object]) -> float | None:
    """Return the most that a service takes while something is done."""
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.append(memory(service))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        do()
    finally:
        over.set()
        looking.join()
    return None if None in seen else max(seen)


def processor_seconds(service: Service) -> float:
    """Return how long the service's processes have kept a core busy."""
    total = 0
    for process in processes(service):
        # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: utime and stime
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
