"""What uwsgi.ini can't set for the process: its heap, and the queue in front of its threads."""

import ctypes
import gc
import socket
from contextlib import suppress

_M_ARENA_MAX = -8
# The kernel lowers it to its own limit, net.core.somaxconn; uWSGI's option `listen` would end uWSGI there.
_MAX_QUEUED_REQUESTS = 4096


def share_one_arena() -> None:
    """Let all threads share one heap."""
    # glibc gives each of the 96 threads a heap of its own, which takes 6 MiB. They need only one, since Python runs one
    # thread at a time. https://man7.org/linux/man-pages/man3/mallopt.3.html
    with suppress(AttributeError):  # Other C libraries don't have this function.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Return to the kernel what the imports needed for a moment, some 1 MiB."""
    gc.collect()
    with suppress(AttributeError):  # Only glibc has this function.
        ctypes.CDLL(None).malloc_trim(0)


def lengthen_queue() -> None:
    """Let more requests wait for a thread than uWSGI may ask for."""
    # Between uWSGI's router and the threads: the router drops a request that finds this queue full.
    with suppress(ImportError):  # Without uWSGI there is no router.
        import uwsgi

        for number in uwsgi.sockets:
            queue = socket.socket(fileno=number)
            queue.listen(_MAX_QUEUED_REQUESTS)
            queue.detach()
