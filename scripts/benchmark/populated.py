"""Directories that differ in how many certificates they have issued, and in nothing else."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ca_service.app.rollback import guard_of
from scripts.benchmark.population import populate
from scripts.benchmark.server import founded
from scripts.benchmark.turns import progress
from tests.support.entries import Foundation
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres


@dataclass(frozen=True)
class Populated:
    """A directory with so many certificates, and the environment it is served in."""

    engine: str
    size: int
    folder: Path
    environ: Mapping[str, str]


def populated(
    folder: Path, engine: str, sizes: Sequence[int], issuer: LocalIssuer, postgres: LocalPostgres | None
) -> Iterator[Populated]:
    """Fill one directory, with a copy of it and of its database at each size; true entries throughout."""
    database = postgres.new_database() if postgres and engine == "postgresql" else ""
    environ = founded(folder / engine, issuer, {"CASVC_DATABASE__URL": database} if database else {})
    filled = 0
    for size in sorted(sizes):
        progress(f"{engine}: fill to {size:,} certificates")
        with in_environment(environ):
            # An entry that only opens the lists' rows is not appended, so the numbers are exact.
            filled = populate(folder / engine, size - filled) if size > filled else filled
            foundation = Foundation(folder / engine)
            guard_of(foundation.settings, foundation.database).catch_up()
            foundation.database.close()
        copy = folder / f"{engine}-{size}"
        shutil.copytree(folder / engine, copy)
        own = dict(environ)
        if postgres and database:
            own["CASVC_DATABASE__URL"] = _copied(postgres, database, f"at_{size}")
        yield Populated(engine, size, copy, own)
    shutil.rmtree(folder / engine)


@contextmanager
def in_environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Have settings in this process's environment for a while: what reads a directory asks there."""
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _copied(postgres: LocalPostgres, url: str, name: str) -> str:
    """Copy a database that nobody is connected to; the copy's URL."""
    place, _, original = url.rpartition("/")
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {original} STRATEGY file_copy".encode())
    return f"{place}/{name}"
