"""The bare prototype that the log is compared with: two tables, one batching thread, nothing else.

It keeps the rules that make a log safe (one transaction, its lock, the head moved from what was read, FULL),
and none of the rest: no kinds, no tiles, no certificates, no errors told, no mark.
"""

import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from ca_service.authority.log import LogHead, sequence
from ca_service.merkle.checkpoint import tree_head_input
from ca_service.merkle.tree import Frontier
from ca_service.vocabulary import TimestampMs
from scripts.benchmark.log_entries import BareCodec, BareEntry
from tests.support.entries import machine_clock

_TREE = (
    "CREATE TABLE tree (id INTEGER PRIMARY KEY, size BIGINT NOT NULL, time BIGINT NOT NULL,"
    " frontier {octets} NOT NULL, root {octets} NOT NULL, signature {octets} NOT NULL)"
)
_LEAVES = (
    "CREATE TABLE reference (leaf_index {number} PRIMARY KEY, leaf_hash {octets} NOT NULL UNIQUE,"
    " leaf {octets} NOT NULL)"
)
_FIRST = "INSERT INTO tree VALUES (1, 0, 0, {empty}, {empty}, {empty})"
_MOST = 256


class Reference:
    """One process's end of it."""

    def __init__(self, place: str, sign: Callable[[bytes], bytes]) -> None:
        """Open a SQLite file's path, or what libpq connects to; tables are made when they are absent."""
        self._sign = sign
        self._postgresql = "=" in place
        if self._postgresql:
            self._connection: Any = psycopg.connect(place, autocommit=True)
        else:
            self._connection = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
            self._lock = os.open(f"{place}.lock", os.O_CREAT | os.O_RDWR)
            for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
        self._waiting: queue.SimpleQueue[tuple[BareEntry, threading.Lock, list[bytes]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @staticmethod
    def make(place: str) -> None:
        """Make the tables."""
        if "=" in place:
            with psycopg.connect(place) as connection:
                for table in (_TREE, _LEAVES):
                    connection.execute(table.format(octets="BYTEA", number="BIGINT"))
                connection.execute(_FIRST.format(empty="''"))
            return
        Path(place).touch()
        with sqlite3.connect(place) as made:
            for table in (_TREE, _LEAVES):
                made.execute(table.format(octets="BLOB", number="INTEGER"))
            made.execute(_FIRST.format(empty="x''"))

    def append(self, entry: BareEntry) -> bytes:
        """The entry's leaf, once it is durable."""
        done, leaf = threading.Lock(), list[bytes]()
        done.acquire()
        self._waiting.put((entry, done, leaf))
        done.acquire()
        return leaf[0]

    def close(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < _MOST and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    return
                batch.append(following)
            if self._postgresql:
                leaves = self._write([entry for entry, _, _ in batch], "BEGIN", " FOR UPDATE", "%s")
            else:
                self._flock()
                leaves = self._write([entry for entry, _, _ in batch], "BEGIN IMMEDIATE", "", "?")
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            for (_, done, leaf), logged in zip(batch, leaves, strict=True):
                leaf.append(logged)
                done.release()

    def _flock(self) -> None:
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.0002)
            else:
                return

    def _write(self, entries: list[BareEntry], begin: str, locked: str, sign: str) -> list[bytes]:
        execute = self._connection.execute
        execute(begin)
        row = execute(f"SELECT size, time, frontier FROM tree WHERE id = 1{locked}").fetchone()  # noqa: S608 - ours
        size, timestamp, frontier = row
        head = LogHead(Frontier.decode(size, bytes(frontier)), TimestampMs(timestamp))
        following = sequence(head, entries, machine_clock(), BareCodec().leaf)
        cursor = self._connection.cursor()
        cursor.executemany(
            "INSERT INTO reference VALUES (?, ?, ?)".replace("?", sign),
            [(each.leaf_index, each.leaf_hash, each.leaf) for each in following.leaves],
        )
        after = following.head
        signature = self._sign(tree_head_input(after.timestamp, after.frontier.size, following.root_hash))
        changed = execute(
            "UPDATE tree SET size = ?, time = ?, frontier = ?, root = ?, signature = ?"
            " WHERE id = 1 AND size = ?".replace("?", sign),
            (
                *(after.frontier.size, after.timestamp, after.frontier.encode()),
                *(following.root_hash, signature, size),
            ),
        )
        if changed.rowcount != 1:
            raise RuntimeError("the head moved under its lock")
        execute("COMMIT")
        return [each.leaf for each in following.leaves]
