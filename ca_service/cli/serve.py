"""`serve`: the service under Gunicorn."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option
from ca_service.cli.tls import RenewedContext
from ca_service.errors import ConfigurationError, MarkUnavailable, RolledBack
from ca_service.settings import Settings
from ca_service.settings.forms import is_loopback
from ca_service.settings.reading import with_values

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from ca_service.app import Service
    from ca_service.telemetry.multiprocess import MetricsDirectory


@click.command()
@config_option()
@click.option("--bind", metavar="HOST:PORT", help="Listen here instead of [server] bind.")
@click.option("--workers", type=int, help="Run this many processes instead of [server] workers.")
@click.option("--metrics", metavar="HOST:PORT", help="Show metrics here instead of at [metrics] bind.")
@click.option(
    "--only",
    type=click.Choice(["status"]),
    help="Serve nothing but OCSP, CRLs and CA certificates, in plain http from any address.",
)
def serve(
    settings: Settings, bind: str | None, workers: int | None, metrics: str | None, only: str | None
) -> None:
    """Run the service.

    Settings, keys, certificates, database and issuers are checked before the first request is taken; what is
    wrong is named, with exit code 2. Stops on SIGTERM after the running requests. On SIGHUP the issuer file
    is read anew without dropping a request; one that is wrong is refused in the log, and the old one stays.

    Off loopback, plain http is refused unless [server] trusted_proxies names a proxy in front that ends TLS.
    With [server] tls_certificate and tls_key it speaks https itself; a second process then serves the status
    URL, which certificates name in plain http. It has metrics only with --metrics and a port of its own.

    \b
      ca-service serve --config ca.toml --bind 0.0.0.0:443
      ca-service serve --config ca.toml --bind 0.0.0.0:80 --only status
    """
    changes: dict[str, object] = {}
    if bind is not None:
        changes["server.bind"] = bind
    if workers is not None:
        changes["server.workers"] = workers
    if only is not None:
        # What certificates name is plain http, whatever the rest is; and the other process has the metrics.
        changes |= {"server.tls_certificate": None, "server.tls_key": None, "metrics.bind": ""}
    if metrics is not None:
        changes["metrics.bind"] = metrics
    settings = with_values(settings, changes, "command line") if changes else settings
    run_server(settings, lambda: production(settings), only_status=only is not None)


def production(settings: Settings) -> "Service":
    """The service as it is set, without a development identity provider."""
    from ca_service.app import build_service

    return build_service(settings)


def run_server(settings: Settings, build: Callable[[], "Service"], *, only_status: bool = False) -> None:
    """Build the service once, then serve it from forked workers until a signal ends it.

    As `prepared` says, which it does first.
    """
    with prepared(settings, build, only_status=only_status) as server:
        from ca_service.cli.server import ServerApplication

        ServerApplication(server.application, server.options).run()


@dataclass(frozen=True)
class Server:
    """What gunicorn is given: the WSGI application, and its options by name."""

    application: "WSGIApplication"
    options: dict[str, object]


@contextmanager
def prepared(
    settings: Settings, build: Callable[[], "Service"], *, only_status: bool = False
) -> Iterator[Server]:
    """Check everything and build the service, for gunicorn to serve until the block is left.

    With `only_status` nothing is served that takes a token or a secret.

    Raises ConfigurationError when the service cannot run as it is set, before anything listens.
    """
    if not only_status:
        refuse_open_http(settings)
    renewed = tls_of(settings)
    with ExitStack() as stack:
        from ca_service.app import create_app
        from ca_service.cli.server import server_options
        from ca_service.telemetry.logs import configure_logs

        configure_logs(settings.logging.level)
        service = build()
        refuse_other_database(service)
        refuse_taken_address("[server] bind", settings.server.bind)
        settings = with_free_metrics(settings)
        application: WSGIApplication = create_app(service, only_status=only_status)
        if settings.server.trusted_proxies:
            from ca_service.web.proxies import behind

            application = behind(settings.server.trusted_proxies, application)
        if settings.metrics.bind:
            from ca_service.app.observation import ServiceState
            from ca_service.telemetry.multiprocess import MetricsDirectory
            from ca_service.telemetry.page import by_port, metrics_page

            directory = MetricsDirectory()
            stack.callback(_remove_metrics, directory, os.getpid())
            service.observer.share(directory)
            page = metrics_page(service.observer, ServiceState(service).read)
            application = by_port(settings.metrics.bind.rpartition(":")[2], page, application)
        options = server_options(
            settings,
            after_fork=service.after_fork,
            close=service.close,
            reload=service.issuers.reload,
            ended=service.observer.forget,
            tls=renewed,
        )
        yield Server(application, options)


def refuse_open_http(settings: Settings) -> None:
    """Raise ConfigurationError when others could read tokens on their way: plain http off loopback."""
    server = settings.server
    if not is_loopback(server.bind) and not server.trusted_proxies and server.tls_certificate is None:
        raise ConfigurationError(
            f"[server] bind: {server.bind} can be reached from other machines in plain http, which would show"
            " identity tokens to the network; bind to 127.0.0.1, or set [server] trusted_proxies to the"
            " addresses of a proxy in front that ends TLS, or tls_certificate and tls_key"
        )


def tls_of(settings: Settings) -> RenewedContext | None:
    """The TLS context that the settings ask for, None for plain http; raises ConfigurationError."""
    certificate, key = settings.server.tls_certificate, settings.server.tls_key
    if certificate is None or key is None:
        return None
    complain = logging.getLogger("ca_service.server").warning
    return RenewedContext(certificate, key, lambda trouble: complain("the old TLS files stay: %s", trouble))


def refuse_other_database(service: "Service") -> None:
    """Raise ConfigurationError when the database lacks this version's schema, or logs of other keys.

    Raises StoreUnavailable when it does not answer. Nothing stays open for the workers to inherit.
    """
    try:
        service.database.check()
        service.log.check_keys()
        _check_lists(service)
    finally:
        service.database.close()


def _check_lists(service: "Service") -> None:
    """A database that was rolled back is served for reading; each worker refuses to sign from it."""
    try:
        service.guard.check()
        service.publication.check_keys()
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


def with_free_metrics(settings: Settings) -> Settings:
    """Without metrics when nobody asked for their address and another program has it; else it is refused."""
    bind = settings.metrics.bind
    if bind:
        try:
            refuse_taken_address("[metrics] bind", bind)
        except ConfigurationError as error:
            if "metrics.bind" in settings.origin.sources:
                raise
            logging.getLogger("ca_service.server").warning(
                "%s; there are no metrics: set [metrics] bind to another address, or to nothing",
                error.message,
            )
            return with_values(settings, {"metrics.bind": ""}, "an address that is taken")
    return settings


def _remove_metrics(directory: "MetricsDirectory", master: int) -> None:
    """Workers leave the block too, by SystemExit; the directory is the master's to remove."""
    if os.getpid() == master:
        directory.close()
