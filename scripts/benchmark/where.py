"""Where a certificate's time goes: one process, one thread of requests, counted by cProfile.

cProfile makes small functions look costlier than they are, so shares are for finding, and the CPU time
without it, printed first, is for comparing. Neither has a server around it: no sockets, no other requests.
"""

import cProfile
import io
import json
import os
import pstats
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from ca_service.app import build_service, create_app
from ca_service.settings import load_settings
from ca_service.telemetry.logs import configure_logs
from scripts.benchmark.plan import Options, Result, Row
from tests.support.issuer import LocalIssuer
from tests.support.processes import production_service
from tests.support.signing import bearer, key_body, new_key

_REQUESTS = 600
_MOST_ROWS = 24


def where(options: Options) -> Result:
    """CPU for one certificate in this process, and which room of the house, or library, takes how much."""
    with LocalIssuer() as issuer:
        made = production_service(options.folder / "ca", issuers=issuer.issuer_file(), workers=1)
        settings = load_settings(made.config, {**os.environ, **made.environ})
        with Path(os.devnull).open("w") as nowhere:
            configure_logs(settings.logging.level, nowhere)
            service = build_service(settings)
            ask = _asker(create_app(service), issuer)
            for _ in range(50):
                ask()
            own, whole = _cpu(ask)
            profile = cProfile.Profile(time.thread_time)
            profile.runcall(lambda: [ask() for _ in range(_REQUESTS)])
            service.close()
            configure_logs("warning", sys.stderr)
    rows = [
        Row("the request's thread", own, "µs CPU"),
        Row("with the log's threads", whole, "µs CPU"),
        *_rooms(pstats.Stats(profile)),
    ]
    return Result("where: one certificate at a time, in this process; own time by room, under cProfile", rows)


def _asker(app: Callable[..., Iterable[bytes]], issuer: LocalIssuer) -> Callable[[], None]:
    email, key = "profile@example.com", new_key()
    body = json.dumps(key_body(key, email)).encode()
    asked = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/v2/signingCert",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": bearer(issuer.token(email))["Authorization"],
    }

    def ask() -> None:
        statuses: list[str] = []

        def start(status: str, _headers: object, _exc_info: object = None) -> None:
            statuses.append(status)

        reply = b"".join(app({**asked, "wsgi.input": io.BytesIO(body)}, start))
        if not statuses[0].startswith("200"):
            raise RuntimeError(f"{statuses[0]}: {reply.decode()}")

    return ask


def _cpu(ask: Callable[[], None]) -> tuple[float, float]:
    """CPU microseconds of this thread and of the process for one request, each the median of all."""
    own, whole = [], []
    for _ in range(_REQUESTS):
        thread, process = time.thread_time_ns(), time.process_time_ns()
        ask()
        own.append(time.thread_time_ns() - thread)
        whole.append(time.process_time_ns() - process)
    return statistics.median(own) / 1000, statistics.median(whole) / 1000


def _rooms(stats: pstats.Stats) -> list[Row]:
    times: dict[str, float] = defaultdict(float)
    for (file, _line, name), (_cc, _calls, own, _cumulative, _callers) in stats.stats.items():  # type: ignore[attr-defined]  # pstats is typed without it
        times[_room(file, name)] += own / _REQUESTS * 1e6
    total = sum(times.values())
    ordered = sorted(times.items(), key=lambda each: -each[1])[:_MOST_ROWS]
    return [Row(room, spent, "µs CPU", spent / total) for room, spent in ordered]


def _room(file: str, name: str) -> str:
    if file == "~":
        if "_thread" in name:
            return "locks between threads"
        return "cryptography" if "cryptography" in name else "Python's built-ins"
    parts = Path(file).parts
    if "ca_service" in parts:
        return "ca_service." + ".".join(parts[parts.index("ca_service") + 1 :][:2]).removesuffix(".py")
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    return "Python's library"
