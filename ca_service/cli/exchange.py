"""One request and its reply, on a connection that may have more of them."""

from collections import deque
from typing import Any, Protocol

from gunicorn.http.wsgi import create

from ca_service.cli.connections import Connection, OneWrite


class Serves(Protocol):
    """The worker, as an exchange sees it."""

    cfg: Any
    stored: "deque[Exchange]"

    def tell(self, place: "deque[Any]", what: object) -> None:
        """Hand something to the thread that serves."""
        ...


class Exchange:
    """One request and its reply."""

    __slots__ = ("answer_by", "connection", "environ", "request", "response", "worker")

    def __init__(self, worker: Serves, connection: Connection, request: Any) -> None:
        """Take a request that was parsed."""
        self.worker = worker
        self.connection = connection
        self.request = request
        self.response, self.environ = create(
            request, connection, connection.client, connection.server, worker.cfg, response_class=OneWrite
        )
        self.environ["wsgi.multithread"] = True
        self.environ["gunicorn.socket"] = connection.sock
        self.answer_by = 0.0

    def done(self) -> None:
        """Say, from any thread, that the pending reply can be finished."""
        self.worker.tell(self.worker.stored, self)
