"""What one process has open towards the database; never used by another one."""

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Engine

from ca_service.store.engines import WRITING, DatabaseServer
from ca_service.store.faults import DRIVER_ERRORS
from ca_service.store.quick import DriverConnection, DriverRow, Parameters, Statement

Asked = Sequence[tuple[Statement, Parameters]]
FirstRows = dict[Statement, DriverRow | None]


class ProcessConnections:
    """An engine, and idle connections for compiled statements; for the process that made this object."""

    def __init__(self, server: DatabaseServer) -> None:
        """Open nothing yet."""
        self.pid = os.getpid()
        self.postgresql = server.name == "postgresql"
        self.engine: Engine = server.engine()
        self.writer: Engine = self.engine.execution_options(**{WRITING: True})
        self.idle: deque[DriverConnection] = deque()
        self._server = server
        self._closed = False

    def open(self) -> DriverConnection:
        """A new connection that commits by itself unless BEGIN is said."""
        connection = self._server.connect(quick=True)
        if self.postgresql:
            connection.autocommit = True  # transactions are begun and ended by statements
        return connection

    def begin(self, statement: str, asked: Asked = ()) -> tuple[DriverConnection, FirstRows]:
        """A connection in a transaction, and the first rows of the queries that were asked with it.

        One that the server had closed is replaced once. PostgreSQL gets all in one exchange, in this order,
        each query with a snapshot of its own; SQLite's queries cost no exchange and are left to be asked.
        """
        try:
            connection = self.idle.pop()
        except IndexError:
            pass
        else:
            try:
                return connection, self._begin(connection, statement, asked)
            except DRIVER_ERRORS:
                lost = not self.postgresql or bool(connection.closed)
                close_quietly(connection)
                if not lost:
                    raise
        connection = self.open()
        try:
            return connection, self._begin(connection, statement, asked)
        except BaseException:
            close_quietly(connection)
            raise

    def _begin(self, connection: DriverConnection, statement: str, asked: Asked) -> FirstRows:
        if not self.postgresql or not asked:
            connection.execute(statement)
            return {}
        with connection.pipeline():
            connection.execute(statement)
            cursors = [connection.execute(query.on_postgresql, values) for query, values in asked]
        return {query: cursor.fetchone() for (query, _), cursor in zip(asked, cursors, strict=True)}

    def roll_back(self, connection: DriverConnection) -> None:
        """End a transaction without effect and keep the connection if it still works."""
        try:
            connection.execute("ROLLBACK")
        except DRIVER_ERRORS:
            close_quietly(connection)
        else:
            self.keep(connection)

    def keep(self, connection: DriverConnection) -> None:
        """Take a connection back for the next use; after `close` there is none."""
        self.idle.append(connection)
        if self._closed:
            self._close_idle()

    def close(self) -> None:
        """Close what is idle, and what is taken back later."""
        self._closed = True
        self.engine.dispose()
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                close_quietly(self.idle.pop())


def close_quietly(connection: DriverConnection) -> None:
    """Close a connection whatever state it is in."""
    with suppress(*DRIVER_ERRORS):  # what is closed after an error may be broken already
        connection.close()
