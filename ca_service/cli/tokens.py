"""Where an administrator's token comes from, and where a login keeps it: never on a command line."""

import json
import os
import re
import sys
import time
from pathlib import Path

import click

from ca_service.errors import Unauthenticated
from ca_service.files.durable import write_file
from ca_service.vocabulary import format_seconds

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9.-]")


def token_for(server: str, token_file: str | None) -> str:
    """The token for a service: from the named file (- is standard input), CASVC_TOKEN, or the last login.

    Raises Unauthenticated, with what to do, when there is none or the login's has expired.
    """
    if token_file is not None:
        # Whoever names a file asks for nothing else: an unreadable one ends the command as an OSError.
        text = sys.stdin.read() if token_file == "-" else Path(token_file).read_text()  # noqa: S105 - standard input
        return _checked(text, "--token-file")
    if given := os.environ.get("CASVC_TOKEN"):
        return _checked(given, "CASVC_TOKEN")
    return _kept(server)


def keep(server: str, token: str, expires: int) -> Path:
    """Keep a login's token for a service, readable by this user alone; returns the file."""
    file = _file(server)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(file, json.dumps({"server": server, "token": token, "expires": expires}).encode(), mode=0o600)
    return file


def _kept(server: str) -> str:
    again = f"run `ca-service login --server {server}`"
    try:
        kept = json.loads(_file(server).read_text())
        known, token, expires = kept["server"], str(kept["token"]), int(kept["expires"])
    except FileNotFoundError:
        raise Unauthenticated(
            f"there is no token for {server}: {again}, or give one by --token-file or CASVC_TOKEN"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise Unauthenticated(f"{_file(server)} is damaged: {again} again") from None
    if known != server:
        # Another service whose name is written alike must not get this one's token.
        raise Unauthenticated(f"the token in {_file(server)} is for {known}: {again}")
    if expires <= time.time():
        raise Unauthenticated(f"the token for {server} expired at {format_seconds(expires)}: {again} again")
    return token


def _file(server: str) -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    host = _NOT_A_NAME.sub("_", server.partition("://")[2])
    return Path(base) / "ca-service" / "tokens" / f"{host}.json"


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise click.UsageError(f"{where}: expected a token: three base64url parts joined by dots")
    return token
