"""A connection to the database that is lost at the worst moment."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any, NoReturn

import psycopg


class Losing:
    """A driver connection that is lost at the COMMIT of a leaf, whose effect it has or has not."""

    def __init__(self, connection: Any, *, stored: bool) -> None:
        self._connection = connection
        self._stored = stored
        self._wrote = self._pipelined = self._lost = False

    def execute(self, sql: str, *parameters: object) -> Any:
        self._wrote |= "INSERT INTO leaves" in sql
        self._lost = sql == "COMMIT" and self._wrote
        if self._lost and not self._stored:
            self._lose()
        done = self._connection.execute(sql, *parameters)
        if self._lost and not self._pipelined:
            self._lose()
        return done

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[None]:
        """PostgreSQL has done nothing of what is said inside before the end."""
        with self._connection.pipeline():
            self._pipelined = True
            yield
        self._pipelined = False
        if self._lost:
            self._lose()

    def _lose(self) -> NoReturn:
        self._connection.close()
        if isinstance(self._connection, sqlite3.Connection):
            raise sqlite3.OperationalError("disk I/O error")
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
