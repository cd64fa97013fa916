"""Issuers over HTTP that misbehave as a test says, which those of others cannot be made to."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.unit.oidc.issuer import Provider

Page = Callable[[BaseHTTPRequestHandler], None]
_DISCOVERY = "/.well-known/openid-configuration"


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Answer with these octets; `headers` are written with - for _."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def redirect(location: str) -> Page:
    """A page that is elsewhere."""
    return lambda handler: send(handler, 302, b"", Location=location)


def document(content: Any) -> Page:
    """A page of JSON."""
    return lambda handler: send(handler, 200, json.dumps(content).encode(), Content_Type="application/json")


class ScriptedServer:
    """A web server with an issuer at each path that issuer() named; a context manager.

    `pages` replaces single pages by path, `asked` are the (address, path) pairs of all requests so far.
    """

    def __init__(self, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str]] = []
        self._issuers: dict[str, Provider] = {}
        server = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append((self.connection.getsockname()[0], self.path))
                try:
                    server.page(self.path)(self)
                except OSError:
                    self.close_connection = True  # the client hung up, as it should

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        first = Server((addresses[0], 0), Answer)
        self.port: int = first.server_address[1]
        self._servers = [first, *(Server((address, self.port), Answer) for address in addresses[1:])]
        self.url = f"http://{addresses[0]}:{self.port}"

    def issuer(self, name: str, host: str | None = None) -> Provider:
        """The issuer URL/name, or under another host name of this server; a test may change its members."""
        if name not in self._issuers:
            base = f"http://{host}:{self.port}" if host else self.url
            self._issuers[name] = Provider(f"{base}/{name}")
            self._issuers[name].now = int(time.time())
        return self._issuers[name]

    def page(self, path: str) -> Page:
        """What is answered at this path."""
        if path in self.pages:
            return self.pages[path]
        for name, issuer in self._issuers.items():
            if path == f"/{name}{_DISCOVERY}":
                return document(issuer.discovery)
            if path == f"/{name}/keys":
                return document({"keys": issuer.published})
        return lambda handler: send(handler, 404, b"")

    def paths(self, name: str) -> list[str]:
        """What was asked so far of the issuer of this name, in order."""
        return [path for _, path in self.asked if path.startswith(f"/{name}/")]

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
