"""How the database's errors leave this room: as StoreUnavailable, never as a driver's own exception."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from ca_service.errors import StoreUnavailable

DRIVER_ERRORS = (SQLAlchemyError, sqlite3.Error, psycopg.Error)
REFUSALS = (psycopg.IntegrityError, psycopg.DataError)
"""What PostgreSQL says of a row, and never of COMMIT: no constraint is deferred."""

_REFUSED = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError, *REFUSALS)

_RETRY_AFTER_SECONDS = 2
_FSYNC_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


class RowRefused(StoreUnavailable):
    """A row breaks a rule of the schema, as a serial that is there already, or holds what no column can."""


class CommitUnknown(StoreUnavailable):
    """COMMIT failed or its answer was lost: what it covered may or may not be stored."""


class DiskUntrusted(StoreUnavailable):
    """The disk failed to confirm a write: what reads show may not be what it holds."""


_NAMES: Mapping[type[StoreUnavailable], str] = {
    StoreUnavailable: "unavailable",
    RowRefused: "row-refused",
    DiskUntrusted: "disk-untrusted",
}
# While there is no connection there is no code, only words: of the server, of libpq or of psycopg, in English
# unless the locale says otherwise. They name hosts and users, so ours are told instead.
_NOT_CONNECTED: Mapping[str, str] = {
    "password authentication failed": "PostgreSQL knows no such user with this password; look at the user in"
    " [database] url, and at the password in ~/.pgpass, PGPASSWORD or CASVC_DATABASE__URL",
    "no password supplied": "PostgreSQL asks for a password and none was found; put it into ~/.pgpass (mode"
    " 0600), PGPASSWORD or CASVC_DATABASE__URL",
    "no pg_hba.conf entry": "PostgreSQL lets nobody in from this machine with this user, database and"
    " encryption; look at its pg_hba.conf",
    # Before the next one: it "does not exist" either.
    "root certificate file": "there is no certificate to know PostgreSQL's by; name its authority's file with"
    " sslrootcert in [database] url, or put it into ~/.postgresql/root.crt",
    "does not exist": "PostgreSQL has no such database or user; look at [database] url, and make it with"
    " createdb or createuser",
    "Connection refused": "nothing listens there; look at host and port in [database] url, and whether"
    " PostgreSQL runs",
    "failed to resolve host": "the host's name is not known; look at [database] url, and at DNS",
    "No such file or directory": "there is no socket of PostgreSQL; name its host in [database] url, or"
    " start it",
    "certificate": "TLS failed; look at PostgreSQL's certificate, and at sslmode and sslrootcert in"
    " [database] url",
    "does not support SSL": "PostgreSQL speaks no TLS there, which sslmode in [database] url asks for; switch"
    " its ssl on, or ask for none",
    "invalid port number": "a port is a number up to 65535; look at [database] url",
    "invalid sslmode value": "sslmode in [database] url is none of disable, prefer, require, verify-ca and"
    " verify-full",
    "timeout expired": "nobody answered in time; look at host and port in [database] url, and for a firewall",
    "not permitted to log in": "PostgreSQL lets this user not log in: ALTER ROLE … LOGIN",
    "permission denied for database": "PostgreSQL does not let this user into this database: GRANT CONNECT",
    "too many": "PostgreSQL takes no more connections: each worker of each node opens up"
    " to 20; raise max_connections, or run fewer workers",
    "starting up": "PostgreSQL is starting; try again in a moment",
}
_BY_CODE: Mapping[str, str] = {
    "42501": "PostgreSQL's user may not do this there; let it own the database: ALTER DATABASE … OWNER TO …",
    "53300": _NOT_CONNECTED["too many"],
    "25006": "this PostgreSQL only reads, as a replica does; name the primary in [database] url",
    "53100": "PostgreSQL's disk is full; make room there",
}
_listeners: list[Callable[[str], None]] = []


def tell_of_errors(listener: Callable[[str], None]) -> None:
    """Have `listener` hear of every error of a database in this process, as one of three words.

    For counting; it must not fail. The one before it hears no more.
    """
    _listeners[:] = [listener]


def unavailable(doing: str, error: Exception) -> StoreUnavailable:
    """Name a driver's error without its statement and parameters, which hold identities."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    kind: type[StoreUnavailable] = StoreUnavailable
    if isinstance(error, _REFUSED):
        kind = RowRefused
    if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) in _FSYNC_FAILED:
        kind = DiskUntrusted
    for tell in _listeners:
        tell(_NAMES[kind])
    failed, advice = "failed", _advice(cause) or "try again, and see the database's own log"
    if kind is RowRefused:
        failed = "refused a row"
        advice = "what it was to hold is there already or fits no column; nothing of it was stored"
    code = f" ({_code(cause)})" if _code(cause) else ""
    return kind(
        f"the database {failed} while {doing}: {type(cause).__name__}{code}; {advice}",
        retry_after=_RETRY_AFTER_SECONDS,
    )


def _advice(error: BaseException) -> str:
    if not isinstance(error, psycopg.Error):
        return ""
    if error.sqlstate:
        return _BY_CODE.get(error.sqlstate, "")
    said = str(error)
    return next((meaning for words, meaning in _NOT_CONNECTED.items() if words in said), "")


def _code(error: BaseException) -> str:
    return str(getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None) or "")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise StoreUnavailable (or RowRefused, DiskUntrusted) for what drivers and SQLAlchemy raise."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise unavailable(doing, error) from error
