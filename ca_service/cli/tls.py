"""TLS of the server itself: its files, and the context that follows them when they are renewed."""

import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ca_service.errors import ConfigurationError
from ca_service.keys.file import open_to_others


def load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Read certificate chain and key for TLS 1.2 and later; raises ConfigurationError naming the setting."""
    try:
        if open_to_others(key.stat()):
            raise ConfigurationError(
                f"[server] tls_key: {key} can be read by other users; run `chmod 600 {key}`"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An empty passphrase instead of a question on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"[server] tls_certificate: {certificate} and [server] tls_key: {key} are not a certificate and "
            f"its private key without a passphrase, both PEM ({error.reason or 'unreadable'})"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"[server] tls_certificate or tls_key: {error.filename or certificate} cannot be read: "
            f"{error.strerror}"
        ) from error
    return context


class RenewedContext:
    """The context of files that somebody else renews: read again once they change, kept when they are wrong.

    Certificate and key are replaced one after the other, so that for a moment they do not fit.
    """

    def __init__(self, certificate: Path, key: Path, complain: Callable[[str], None]) -> None:
        """Read the files; raises ConfigurationError. `complain` hears what is wrong with later ones."""
        self._certificate, self._key, self._complain = certificate, key, complain
        self._changing = threading.Lock()
        self._seen = self._state()
        self._context = load_context(certificate, key)

    def __call__(self, _options: object, _factory: object) -> ssl.SSLContext:
        """The context for one more connection: gunicorn's hook."""
        if self._state() != self._seen:
            with self._changing:
                if (state := self._state()) != self._seen:
                    self._seen = state
                    try:
                        self._context = load_context(self._certificate, self._key)
                    except ConfigurationError as error:
                        self._complain(error.message)
        return self._context

    def _state(self) -> tuple[Any, ...]:
        try:
            return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in map(os.stat, self._files()))
        except OSError:
            return ()

    def _files(self) -> tuple[Path, Path]:
        return self._certificate, self._key
