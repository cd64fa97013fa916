"""Gunicorn's threaded worker, that leaves nothing lying in the queue of its listening sockets when it stops.

Gunicorn's own stops to accept, finishes what it has, and closes its sockets last. Until then the kernel goes
on taking connections, for as long as seconds, and resets them in the end: a proxy in front cannot know
whether a request that it sent was worked on, so it does not send it to another node. Here a connection that
was taken is served, and the next one is refused at once, which a proxy may repeat elsewhere.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker


class DrainingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A worker process."""

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections or not; when it stops, serve those that wait and refuse all others."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            accept_the_last(self.sockets, self._serve_too)

    def _serve_too(self, sock: socket.socket, client: object, server: object) -> None:
        sock.setblocking(True)
        self.nr_conns += 1
        self.enqueue_req(TConn(self.cfg, sock, client, server))


def accept_the_last(listeners: Sequence[Any], serve: Callable[[socket.socket, object, object], None]) -> None:
    """Hand over each connection that waits at these sockets, with both addresses, and close the sockets.

    Other processes may hold the same sockets: they then go on taking connections for themselves.
    """
    for listener in listeners:
        listener.setblocking(False)
        server = listener.getsockname()
        while True:
            try:
                sock, client = listener.accept()
            except ConnectionAbortedError:
                continue  # this client has gone; the next may wait
            except OSError:
                break
            serve(sock, client, server)
        listener.close()
