"""Make the application: settings, then its parts, then the blueprints that use them."""

import ctypes
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

from flask import Flask

import logs
from access.grants import Access
from access.passwords import Passwords
from cluster.api import Cluster
from deployer import Deployer
from rollout.metrics import Metrics
from rollout.monitor import Monitor
from settings import Settings
from web import answers, probes, routes, webhooks
from web.parts import EXTENSION, Calling, Parts, Waiting
from web.receiving import Receiver

_M_ARENA_MAX = -8
# The kernel lowers it to its own limit, net.core.somaxconn; uWSGI's option `listen` would end uWSGI there.
_MAX_QUEUED_REQUESTS = 4096


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Make the application from environment variables. Raises ValueError, which names every bad one."""
    _share_one_arena()
    _lengthen_queue()
    logs.configure()
    settings = Settings.from_environ(environ)
    passwords = Passwords(settings.passwords_dir)
    passwords.read()  # So that the log names the lines that open nothing from the start.
    tokens = None
    if settings.oidc_audience:
        # Imported only here: the cryptography that it needs takes some 10 MiB.
        from access.oidc import Tokens

        tokens = Tokens(settings.oidc_issuer, settings.oidc_audience)
    access = Access(passwords, tokens, settings.deployments_dir)
    cluster, metrics = Cluster(settings.kubeconfig), Metrics()
    monitor = Monitor(cluster, settings, metrics)
    deployer = Deployer(cluster, settings, monitor)
    deployer.unusable_urls()  # So that the log names the lines from the start.

    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    # `/deployment//web` means the name `/web`, which no deployment has, and not `web`.
    app.url_map.merge_slashes = False
    app.url_map.converters["name"] = routes.NameConverter
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.extensions[EXTENSION] = Parts(deployer, access, metrics, Waiting(), Calling())
    for module in (answers, routes, webhooks, probes):
        app.register_blueprint(module.blueprint)
    app.before_request(Receiver().receive)  # After the blueprints: the answer of a refusal needs what they prepare.
    threading.Thread(target=monitor.resume, args=(deployer.loadable,), name="resume", daemon=True).start()
    return app


def _share_one_arena() -> None:
    # glibc gives each of the 96 threads a heap of its own, which takes 6 MiB. They need only one, since Python runs one
    # thread at a time. https://man7.org/linux/man-pages/man3/mallopt.3.html
    with suppress(AttributeError):  # Other C libraries don't have this function.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _lengthen_queue() -> None:
    # Between uWSGI's router and the threads: the router drops a request that finds this queue full.
    with suppress(ImportError):  # Without uWSGI there is no router.
        import uwsgi

        for number in uwsgi.sockets:
            queue = socket.socket(fileno=number)
            queue.listen(_MAX_QUEUED_REQUESTS)
            queue.detach()
