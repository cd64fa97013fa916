"""Gunicorn around the service: its settings, its hooks, and our log in place of its own."""

import gc
import logging
import os
import resource
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger

from ca_service.cli.connection_keeper import SILENCE_SECONDS
from ca_service.cli.draining import bar_when_closed
from ca_service.cli.group import explained
from ca_service.cli.handover import Handover
from ca_service.cli.worker import LoopWorker
from ca_service.errors import ConfigurationError
from ca_service.settings import Settings
from ca_service.telemetry.tracebacks import log_uncaught

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# ID tokens with many groups exceed gunicorn's 8,190 bytes; proxies in front usually stop at 32 KiB too.
_LONGEST_HEADER = 32768
# RFC 6960's GET form puts the whole request into the path.
_LONGEST_LINE = 8190
_CONNECTIONS = 2000
_COLLECTED_AFTER = (10_000, 20, 20)
"""Python's own 700 had a tenth of a certificate's time go into looking for cycles, of which there are few."""
_OTHER_FILES = 256
_MEMORY = "/dev/shm"  # noqa: S108 - gunicorn makes its heartbeat file there itself, safely


class RootLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Hands gunicorn's own messages to our JSON log and writes no access log: the service writes its own."""

    def setup(self, cfg: Any) -> None:
        """Take gunicorn's handlers away, so that its records reach the root logger."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in list(log.handlers):
                log.removeHandler(handler)
            log.propagate = True
        self.error_log.setLevel(logging.NOTSET)

    def debug(self, msg: str, *args: object, **kwargs: Any) -> None:
        """Write what gunicorn does, without the paths and octets of requests that it does it with."""
        super().debug(msg.replace("%s", "(left out)") if args else msg, **kwargs)

    def warning(self, msg: str, *args: object, **kwargs: Any) -> None:
        """Write a warning; of a request that is no HTTP the kind of fault, not its text and whose it is."""
        if msg.startswith("Invalid request from"):
            super().warning("a request that is no valid HTTP: %s", type(sys.exc_info()[1]).__name__)
        else:
            super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: object, **kwargs: Any) -> None:
        """Write an exception; a client that fell silent is not worth a traceback."""
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("a client stopped in the middle of a request or answer for %d seconds", SILENCE_SECONDS)
        elif msg.startswith("Error handling request"):
            super().exception("a request could not be handled", **kwargs)
        else:
            super().exception(msg, *args, **kwargs)


class ServerApplication(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """The service, loaded once and then forked into the workers."""

    def __init__(self, application: "WSGIApplication", options: Mapping[str, object]) -> None:
        """Take the finished WSGI application and gunicorn's options."""
        self._application = application
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Set the options; gunicorn's own files and variables are not read."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> "WSGIApplication":
        """Give the application to the workers."""
        return self._application


def server_options(
    settings: Settings,
    *,
    after_fork: Callable[[], None],
    close: Callable[[], None],
    reload: Callable[[], object],
    ended: Callable[[int], None] = lambda _pid: None,
    tls: Callable[[object, object], ssl.SSLContext] | None = None,
) -> dict[str, object]:
    """Gunicorn's options; `after_fork` runs in each new worker, `close` when it ends.

    `reload` runs on SIGHUP in the first process, which then replaces its workers by copies of itself; it
    must not raise. `ended` hears of each worker process that ended. `tls` gives each connection its context;
    None means plain http.
    """

    shared: list[Handover] = []

    def on_starting(arbiter: Any) -> None:
        shared[:] = [Handover()]
        with explained():
            refuse_other_options(arbiter.cfg, options)

    def post_fork(_arbiter: object, worker: LoopWorker) -> None:
        worker.handover = shared[0]
        log_uncaught()
        gc.set_threshold(*_COLLECTED_AFTER)
        after_fork()

    def worker_exit(_arbiter: object, _worker: object) -> None:
        close()

    def child_exit(_arbiter: object, worker: Any) -> None:
        ended(worker.pid)

    def on_reload(_arbiter: object) -> None:
        reload()

    def when_ready(arbiter: Any) -> None:
        # What is loaded by now stays: workers need neither look at it again nor copy its pages for that.
        gc.collect()
        gc.freeze()
        for listener in arbiter.LISTENERS:
            # Linux hands this on to the connections it accepts; the worker sets them blocking, without end.
            patience = struct.pack("ll", SILENCE_SECONDS, 0)
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            bar_when_closed(listener)
        logging.getLogger("ca_service.server").info(
            "serving %s on %s", settings.service.url, settings.server.bind
        )

    options: dict[str, object] = {
        "bind": [bind for bind in (settings.server.bind, settings.metrics.bind) if bind],
        "workers": worker_count(settings),
        "worker_class": LoopWorker,
        "threads": settings.server.threads,
        "worker_connections": _connections(),
        "preload_app": True,
        "proc_name": "ca-service",
        "graceful_timeout": settings.server.graceful_timeout_seconds,
        # A worker that was replaced finishes what it has; the next one is a copy of the first process.
        "max_requests": settings.server.max_requests,
        "max_requests_jitter": settings.server.max_requests_jitter,
        "timeout": 60,
        "keepalive": 15,
        "limit_request_field_size": _LONGEST_HEADER,
        "limit_request_line": _LONGEST_LINE,
        "limit_request_fields": 64,
        # What workers write, the database's files above all, is for their user alone.
        "umask": 0o077,
        # Gunicorn would open a control socket in HOME.
        "control_socket_disable": True,
        "worker_tmp_dir": _MEMORY if os.path.isdir(_MEMORY) else None,  # noqa: PTH112 - a plain test
        "logger_class": RootLogger,
        "accesslog": None,
        "loglevel": settings.logging.level,
        "on_starting": on_starting,
        "post_fork": post_fork,
        "worker_exit": worker_exit,
        "child_exit": child_exit,
        "when_ready": when_ready,
        "on_reload": on_reload,
    }
    if tls is not None:
        # The files are named for gunicorn to know that it speaks TLS; the hook has read them.
        options |= {
            "certfile": str(settings.server.tls_certificate),
            "keyfile": str(settings.server.tls_key),
            "ssl_context": tls,
        }
    return options


def refuse_other_options(configured: Any, options: Mapping[str, object]) -> None:
    """Raise ConfigurationError when gunicorn's command line or environment changed one of our options.

    What was checked, such as that tokens do not travel in plain http, would not hold for what is served.
    """
    ours = Config()
    for name, value in options.items():
        ours.set(name, value)
    changed = [name for name in options if configured.settings[name].get() != ours.settings[name].get()]
    if changed:
        raise ConfigurationError(
            f"gunicorn's {changed[0]} was given beside the settings file, which decides it; set it in ca.toml"
            " or as a CASVC_… variable, and leave it out of gunicorn's command line and GUNICORN_CMD_ARGS"
        )


def _connections() -> int:
    """How many connections a worker may hold: fewer where it may open fewer files, or it would run out."""
    wanted = _CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - _OTHER_FILES, _OTHER_FILES)


def worker_count(settings: Settings) -> int:
    """As many workers as set, or as this process may use cores: signing hardly scales over threads."""
    return settings.server.workers or len(os.sched_getaffinity(0))
