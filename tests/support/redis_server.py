"""A Redis of the tests' own: real server, free loopback port, nothing kept on disk."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.processes import free_port


class LocalRedis:
    """Started by `with`; it can be stopped, killed, paused and started again on the same port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ca-service-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def client(self) -> "redis.Redis":
        """A connection to look at, and to spoil, what is stored; close it."""
        return redis.Redis(port=self.port)

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: install Debian's package of that name"
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
                    *("--save", "", "--appendonly", "no"),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 60
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError((self.folder / "log").read_text()) from None
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """kill -9, and be sure that it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)
            self._process = None

    def pause(self) -> None:
        """Stop it in its tracks: connections are still accepted, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
