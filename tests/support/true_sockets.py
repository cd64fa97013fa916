"""Sockets for servers that outlive the test that started them: unit tests have sockets off."""

import socket

# Taken while tests are collected, when nothing stands in its place.
_Socket = socket.socket


def accept(listener: socket.socket) -> tuple[socket.socket, object]:
    """As `listener.accept()`."""
    number, address = listener._accept()  # type: ignore[attr-defined]  # what `accept` itself begins with
    return _Socket(fileno=number), address


def connect(port: int) -> socket.socket:
    """A connection to 127.0.0.1:`port`."""
    connection = _Socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.connect(("127.0.0.1", port))
    except OSError:
        connection.close()
        raise
    return connection
