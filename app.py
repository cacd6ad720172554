"""Make the application: settings, then its parts, then the blueprints that use them."""

import logging
import os
import threading
from collections.abc import Mapping

from flask import Flask, request

import logs
import process
from access.grants import Access
from access.passwords import Passwords
from cluster.api import Cluster
from deployer import Deployer
from rollout.metrics import Metrics
from rollout.monitor import Monitor
from settings import Settings
from version import KUBERNETES_CLIENT, PYTHON, VERSION
from web import answers, origins, page, probes, request_log, routes, webhooks
from web.flood import FloodGuard
from web.parts import EXTENSION, MAX_WAITING_PAGES, Calling, Parts, Waiting
from web.receiving import Receiver

log = logging.getLogger(__name__)


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Make the application from environment variables. Raises ValueError, which names every bad one."""
    process.share_one_arena()
    process.lengthen_queue()
    logs.configure()
    log.info("auto-deployer %s, Python %s, Kubernetes client %s", VERSION, PYTHON, KUBERNETES_CLIENT)
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
    waiting = Waiting(), Waiting(MAX_WAITING_PAGES)
    app.extensions[EXTENSION] = Parts(deployer, access, metrics, *waiting, Calling(), settings.public_url)
    for module in (request_log, answers, page, routes, webhooks, probes):
        app.register_blueprint(module.blueprint)
    receiver = Receiver()
    # After the blueprints: the answer of a refusal needs what they prepare.
    app.before_request(lambda: receiver.receive(request))
    app.before_request(origins.refuse_other_sites)
    app.wsgi_app = FloodGuard(app.wsgi_app, receiver, access, metrics, request_log.refused)
    process.return_free_memory()
    threading.Thread(target=monitor.resume, args=(deployer.loadable,), name="resume", daemon=True).start()
    return app
