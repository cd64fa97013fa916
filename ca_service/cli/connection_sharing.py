"""The connections that a worker hands over to others, and takes from them."""

import select

from ca_service.cli.connection_keeper import ConnectionKeeper
from ca_service.cli.connections import Connection
from ca_service.cli.handover import IN_A_ROW, Channel, Handover

_LATELY_SECONDS = 1.0
"""Who asked for a certificate so lately counts as a client of the worker that leads."""


class ConnectionSharer(ConnectionKeeper):
    """The part of a worker process that shares its connections with the other workers, if there are any."""

    handover: Handover | None = None

    def _begin_sharing(self) -> None:
        if self.handover is not None:
            self.handover.begin(self.age)
            self.epoll.register(self.handover.listening, select.EPOLLIN)

    def _share_out(self, now: float) -> None:
        """Lead, if no other worker does, and see that nothing that was handed over stays where it is."""
        handover = self.handover
        if handover is None:
            return
        since = now - _LATELY_SECONDS
        clients = sum(each.signings > 0 and each.since > since for each in self.connections.values())
        if handover.look(now, clients):
            self.epoll.unregister(handover.from_leader)
            self.epoll.register(handover.to_leader, select.EPOLLIN)
        if handover.leads:
            self._take_over(handover.from_leader)
        elif handover.is_unattended(now):
            self._take_over(handover.to_leader)

    def _end_sharing(self) -> None:
        """Be given nothing more, and serve what was given and nobody has taken."""
        if self.handover is not None:
            self.epoll.unregister(self.handover.listening)
            self.handover.retire()
            self._take_over(self.handover.to_leader)
            self._take_over(self.handover.from_leader)

    def _take_over(self, channel: Channel) -> None:
        """Serve what other workers have handed over."""
        for handed in channel.taken():
            try:
                client, server = handed.sock.getpeername(), handed.sock.getsockname()
            except OSError:
                handed.sock.close()  # this client has gone
                continue
            connection = Connection(self.cfg, handed.sock, client, server)
            connection.gathered, connection.whole, connection.signings = handed.request, True, IN_A_ROW
            connection.busy, connection.since = True, handed.since
            self.connections[connection.number] = connection
            self.arrived.append(connection)

    def _is_handed_over(self, connection: Connection) -> bool:
        """Whether another worker goes on with this connection."""
        if (
            self.handover is None
            # One that stops has looked for the last time for what nobody took.
            or not self.alive
            or not connection.whole
            or self.cfg.is_ssl
            or not self.handover.give(
                connection.sock, connection.gathered, connection.since, connection.signings
            )
        ):
            return False
        del self.connections[connection.number]
        self._watch(connection, 0)
        connection.sock.close()
        return True
