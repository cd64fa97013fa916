"""Wake-ups that reach every process and node, by publish/subscribe in a Redis that may go away."""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from ca_service.authority.ports import Observer
from ca_service.cache.redis_server import ERROR, PAUSE_SECONDS, TIMEOUT_SECONDS, connections, drop
from ca_service.cache.wake_ups import MemoryWakeUps

CHANNEL_PREFIX = "casvc:wake"

_CONNECT_SECONDS = 2.0
_SILENCE_SECONDS = 10.0
_FIRST_RETRY_SECONDS = 0.25
_LONGEST_RETRY_SECONDS = 5.0
_BREATH_SECONDS = 0.02
"""A flood is read this often, 64 KiB at a time; Redis itself cuts off whom it has sent too much."""

_CHUNK = 65_536

_LOG = logging.getLogger(__name__)


class RedisWakeUps:
    """Sends by PUBLISH; a thread of each process is subscribed, and comes back after every trouble.

    What the messages say is never read: whatever comes is a wake-up.
    """

    def __init__(
        self,
        url: str,
        service: str,
        observer: Observer,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        silence_seconds: float = _SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a redis://, rediss:// or unix:// URL, and a name that this service has alone.

        `timeout_seconds` bounds the wait for each answer to `send`. A subscription that was silent for
        `silence_seconds` is asked for a sign of life, and given up after as many more. Raises
        ConfigurationError when the URL cannot be read.
        """
        self.channel = f"{CHANNEL_PREFIX}:{service}"
        self._sending = connections(url, timeout_seconds)
        self._redis = Redis(connection_pool=self._sending)
        self._listening = connections(url, max(timeout_seconds, _CONNECT_SECONDS))
        self._observer = observer
        self._silence = silence_seconds
        self._clock = clock
        self._here = MemoryWakeUps()
        self._lock = threading.Lock()
        self._listener: _Listener | None = None
        self._send_again = 0.0
        self.subscribed = threading.Event()
        """Whether this process is reached by others now."""

    def send(self) -> None:
        """Wake every process of the service; this one always. See ports.WakeUps."""
        self._here.send()
        if self._clock() < self._send_again:
            self._observer.count(ERROR, use="wake-ups", reason="pause")
            return
        try:
            reached: object = self._redis.publish(self.channel, b"")
        except ResponseError as error:
            self._trouble("nonsense", error)
        except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the library do, its caller's work is done
            self._send_again = self._clock() + PAUSE_SECONDS
            self._trouble("away", error)
        else:
            if not isinstance(reached, int):
                self._trouble("nonsense", TypeError("no number"))

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, or for so long; see ports.WakeUps."""
        with self._lock:
            if self._listener is None or self._listener.pid != os.getpid():
                self._listener = _Listener(self)
                self._listener.start()
        return self._here.wait(seconds)

    def trouble(self) -> str | None:
        """Return why others are not woken or this process would not be, or None; wakes them all."""
        connection: Any = self._listening.make_connection()
        try:
            self._redis.publish(self.channel, b"")
            self._subscribed(connection)
        except Exception as error:  # noqa: BLE001 - as in send; whoever asks reads what it was
            return f"{type(error).__name__}: {ascii(str(error))[1:-1]}"
        finally:
            connection.disconnect()
        return None

    def close(self) -> None:
        """End this process's subscription and connections, and wake whoever waits."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None and listener.pid == os.getpid():
            listener.end()
        self._sending.disconnect()
        self._here.close()

    def follow(self, listener: "_Listener") -> None:
        """Subscribe, and wake this process whenever something comes, until the connection or thread ends."""
        connection: Any = self._listening.make_connection()
        try:
            incoming = listener.incoming = self._subscribed(connection)
            incoming.settimeout(self._silence)
            self.subscribed.set()
            self._here.send()  # what was sent while nobody was subscribed is lost
            asked = False
            while not listener.ended.is_set():
                try:
                    octets = incoming.recv(_CHUNK)
                except TimeoutError:
                    if asked:
                        raise
                    connection.send_command("PING", check_health=False)
                    asked = True
                    continue
                if not octets:
                    raise ConnectionError("it closed the connection")
                asked = False
                self._here.send()
                listener.ended.wait(_BREATH_SECONDS)
        finally:
            self.subscribed.clear()
            connection.disconnect()

    def _subscribed(self, connection: Any) -> socket.socket:
        """The socket of a connection on which from now on only messages come; ResponseError."""
        connection.connect()
        connection.send_command("SUBSCRIBE", self.channel)
        # Below the library, which would read and decode messages of any size that nobody wants.
        incoming: socket.socket = connection._get_socket()  # noqa: SLF001 - it has no public name
        answer = incoming.recv(_CHUNK)
        if not answer.startswith((b"*", b">")) or b"subscribe" not in answer:
            raise ResponseError(f"it refused the subscription: {answer[:80]!a}")
        return incoming

    def _trouble(self, reason: str, error: Exception) -> None:
        self._observer.count(ERROR, use="wake-ups", reason=reason)
        drop(self._sending)
        _LOG.debug("a wake-up could not be sent: %s", type(error).__name__)

    def lost(self, error: Exception, *, first: bool) -> None:
        """Count that the subscription is lost, and say so once."""
        reason = "nonsense" if isinstance(error, ResponseError) else "away"
        self._observer.count(ERROR, use="wake-ups", reason=reason)
        if first:
            _LOG.warning(
                "no wake-ups come from Redis (%s): this process finds changes within about a second",
                type(error).__name__,
            )


class _Listener(threading.Thread):
    """The thread of one process that is subscribed, again and again."""

    def __init__(self, wake_ups: RedisWakeUps) -> None:
        super().__init__(name="wake-ups", daemon=True)
        self.pid = os.getpid()
        self.ended = threading.Event()
        self.incoming: socket.socket | None = None
        self._wake_ups = wake_ups

    def run(self) -> None:
        """Subscribe until told to end; each failure makes the next try wait longer."""
        pause, first = _FIRST_RETRY_SECONDS, True
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                self._wake_ups.follow(self)
            except Exception as error:  # noqa: BLE001 - as in `send`; without this thread changes are found later
                if self.ended.is_set():
                    return
                if time.monotonic() - began > _LONGEST_RETRY_SECONDS:
                    pause, first = _FIRST_RETRY_SECONDS, True  # it had worked for a while
                self._wake_ups.lost(error, first=first)
                first = False
            # Not all processes at once.
            self.ended.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
            pause = min(pause * 2, _LONGEST_RETRY_SECONDS)

    def end(self) -> None:
        """Leave the loop, also out of the middle of waiting."""
        self.ended.set()
        if self.incoming is not None:
            with suppress(OSError):
                self.incoming.shutdown(socket.SHUT_RDWR)
