"""`serve`: the service under Gunicorn."""

import logging
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option
from ca_service.errors import ConfigurationError, MarkUnavailable, RolledBack
from ca_service.settings import Settings
from ca_service.settings.forms import is_loopback
from ca_service.settings.reading import with_values

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from ca_service.app import Service


@click.command()
@config_option()
@click.option("--bind", metavar="HOST:PORT", help="Listen here instead of [server] bind.")
@click.option("--workers", type=int, help="Run this many processes instead of [server] workers.")
def serve(settings: Settings, bind: str | None, workers: int | None) -> None:
    """Run the service.

    Settings, keys, certificates, database and issuers are checked before the first request is taken; what is
    wrong is named, with exit code 2. Stops on SIGTERM after the running requests. On SIGHUP the issuer file
    is read anew without dropping a request; one that is wrong is refused in the log, and the old one stays.

    Off loopback, plain http is refused unless [server] behind_proxy says that a proxy in front ends TLS.
    """
    changes: dict[str, object] = {}
    if bind is not None:
        changes["server.bind"] = bind
    if workers is not None:
        changes["server.workers"] = workers
    settings = with_values(settings, changes, "command line") if changes else settings
    run_server(settings, lambda: _service(settings))


def _service(settings: Settings) -> "Service":
    from ca_service.app import build_service

    return build_service(settings)


def run_server(settings: Settings, build: Callable[[], "Service"]) -> None:
    """Build the service once, then serve it from forked workers until a signal ends it.

    `build` is called after the metrics directory is made, so it must import ca_service.app itself, and not
    earlier. Raises ConfigurationError when the service cannot run as it is set, before anything listens.
    """
    refuse_open_http(settings)
    master = os.getpid()
    with ExitStack() as stack:
        if settings.metrics.bind:
            stack.callback(_remove_metrics, _open_metrics(), master)
        from ca_service.app import create_app
        from ca_service.cli.server import ServerApplication, server_options
        from ca_service.telemetry.logs import configure_logs

        configure_logs(settings.logging.level)
        service = build()
        refuse_other_database(service)
        refuse_taken_address("[server] bind", settings.server.bind)
        if settings.metrics.bind:
            refuse_taken_address("[metrics] bind", settings.metrics.bind)
        application: WSGIApplication = create_app(service)
        if settings.server.behind_proxy:
            from werkzeug.middleware.proxy_fix import ProxyFix

            # One proxy: what stood in these headers before it is a client's own claim.
            application = ProxyFix(application, x_for=1, x_proto=1)
        if settings.metrics.bind:
            from ca_service.telemetry.metrics import by_port, metrics_page

            port = settings.metrics.bind.rpartition(":")[2]
            application = by_port(port, metrics_page(service.observer), application)
        options = server_options(
            settings, after_fork=service.after_fork, close=service.close, reload=service.issuers.reload
        )
        ServerApplication(application, options).run()


def refuse_open_http(settings: Settings) -> None:
    """Raise ConfigurationError when others could read tokens on their way: plain http off loopback."""
    if not is_loopback(settings.server.bind) and not settings.server.behind_proxy:
        raise ConfigurationError(
            f"[server] bind: {settings.server.bind} can be reached from other machines in plain http, which"
            " would show identity tokens to the network; bind to 127.0.0.1, or set [server] behind_proxy ="
            " true when a proxy in front ends TLS"
        )


def refuse_other_database(service: "Service") -> None:
    """Raise ConfigurationError when the database lacks this version's schema, or logs of other keys.

    Raises StoreUnavailable when it does not answer. Nothing stays open for the workers to inherit.
    """
    try:
        service.database.check()
        service.log.check_keys()
        _tell_when_behind(service)
    finally:
        service.database.close()


def _tell_when_behind(service: "Service") -> None:
    """A database that was rolled back is served for reading; each worker refuses to sign from it."""
    try:
        service.guard.check()
    except (RolledBack, MarkUnavailable) as error:
        logging.getLogger("ca_service").warning("%s. What to do: %s", error.message, error.remedy)


def refuse_taken_address(name: str, bind: str) -> None:
    """Raise ConfigurationError for an address that is taken; gunicorn would retry and give up in its log."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise ConfigurationError(f"{name}: {bind} cannot be listened on: {error.strerror}") from error


def _open_metrics() -> Path:
    from ca_service.telemetry.multiprocess import open_metrics_directory

    return open_metrics_directory()


def _remove_metrics(directory: Path, master: int) -> None:
    """Workers leave the block too, by SystemExit; the directory is the master's to remove."""
    from ca_service.telemetry.multiprocess import close_metrics_directory

    if os.getpid() == master:
        close_metrics_directory(directory)
