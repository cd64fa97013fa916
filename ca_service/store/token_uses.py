"""Which tokens got their one certificate: a row each, made in the transaction that logs the certificate."""

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from ca_service.authority.ports import Clock, TokenUse
from ca_service.errors import TokenReused
from ca_service.store.database import Database
from ca_service.store.quick import Statement, Transaction
from ca_service.store.schema import token_uses

CLOCK_TOLERANCE = 300
"""Seconds past `exp` that a use is kept: another node's clock may still take the token for valid."""

_SWEPT_AT_ONCE = 1_000
"""Issuing waits while rows are deleted, so they go in small transactions."""

_NEW_USE = Statement(
    sqlite.insert(token_uses).on_conflict_do_nothing(),
    postgresql.insert(token_uses).on_conflict_do_nothing(),
)
_SOONEST = Statement(select(func.min(token_uses.c.expires)))


def use(transaction: Transaction, token: TokenUse) -> None:
    """Record the use of a token; raises TokenReused when it is recorded already.

    Of two transactions with one token, the second waits here for the first to end.
    """
    if transaction.change(_NEW_USE, {"token_hash": token.token_hash, "expires": token.expires}) != 1:
        raise TokenReused(
            "this token already got a certificate, and this service takes each token once; get a fresh one"
        )


class SqlTokenUses:
    """Used tokens in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the database and the clock by which tokens expire."""
        self._database = database
        self._clock = clock

    def sweep(self) -> int:
        """Forget those that have expired long enough ago for any clock; how many. Raises StoreUnavailable."""
        before = self._clock() // 1000 - CLOCK_TOLERANCE
        row = self._database.quick_row(_SOONEST, {})
        if row is None or row[0] is None or row[0] >= before:
            return 0
        oldest = select(token_uses.c.token_hash).where(token_uses.c.expires < before).limit(_SWEPT_AT_ONCE)
        swept = 0
        while True:
            with self._database.writing() as connection:
                deleted = connection.execute(delete(token_uses).where(token_uses.c.token_hash.in_(oldest)))
                swept += deleted.rowcount
            if deleted.rowcount < _SWEPT_AT_ONCE:
                return swept
