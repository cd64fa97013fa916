"""Limits and wake-ups over rediss://, with the rights that docs/how-to/run-several-nodes.md gives."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ca_service.cache.redis_server import RedisRateLimiter
from ca_service.cache.redis_wake_ups import RedisWakeUps
from tests.support.processes import free_port, wait_until
from tests.support.store import RecordingObserver
from tests.support.tls import TlsAuthority

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "run-several-nodes.md"
PATIENT = 60.0


def documented_rights() -> str:
    """What the guide says after ACL SETUSER, on one line."""
    found = re.search(r"ACL SETUSER (.*?)\n```", GUIDE.read_text(), re.DOTALL)
    assert found
    return found[1].replace("\\\n", " ").replace("'", "")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of a Redis that speaks TLS alone, and where its authority's certificate is."""
    folder = tmp_path_factory.mktemp("redis-tls")
    authority, port = TlsAuthority.new("Example TLS"), free_port()
    key, certificate = authority.server("127.0.0.1", folder / "tls")
    (folder / "ca.pem").write_text(authority.pem)
    (folder / "redis.conf").write_text(
        f'bind 127.0.0.1\nport 0\ntls-port {port}\ndir {folder}\nsave ""\ntls-auth-clients no\n'
        f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {folder}/ca.pem\n"
        f"user {documented_rights()}\n"
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(["redis-server", str(folder / "redis.conf")], stdout=log)
    try:
        text = f"127.0.0.1:{port}/0?ssl_ca_certs={folder}/ca.pem"
        wait_until(lambda: trouble(f"rediss://ca:PASSWORD@{text}") == (None, None), PATIENT, "a Redis")
        yield text
    finally:
        server.kill()
        server.wait(PATIENT)


def trouble(url: str) -> tuple[str | None, str | None]:
    """What limits and wake-ups say of a Redis."""
    observer = RecordingObserver()
    with (
        closing(RedisRateLimiter(url, observer, timeout_seconds=PATIENT)) as limiter,
        closing(RedisWakeUps(url, "5e" * 16, observer, timeout_seconds=PATIENT)) as wake_ups,
    ):
        return limiter.trouble(), wake_ups.trouble()


def test_the_documented_user_counts_and_wakes_over_tls(secured: str) -> None:
    url, observer = f"rediss://ca:PASSWORD@{secured}", RecordingObserver()
    with (
        closing(RedisRateLimiter(url, observer, timeout_seconds=PATIENT)) as limiter,
        closing(RedisWakeUps(url, "5e" * 16, observer, timeout_seconds=PATIENT)) as wake_ups,
    ):
        left = [limiter.take("5e" * 32, 3) for _ in range(4)]
        assert [one.allowed for one in left if one] == [True, True, True, False]
        wake_ups.wait(0)
        assert wake_ups.subscribed.wait(PATIENT)
        wake_ups.send()
        assert wake_ups.wait(PATIENT)
    assert observer.counted == []


def test_a_server_that_nobody_vouches_for_and_a_wrong_password_are_refused(secured: str) -> None:
    strange = f"rediss://ca:PASSWORD@{secured.partition('?')[0]}"
    for told in trouble(strange):
        assert "CERTIFICATE_VERIFY_FAILED" in str(told)
    for told in trouble(f"rediss://ca:hunter2@{secured}"):
        assert str(told).startswith("AuthenticationError")
        assert "hunter2" not in str(told)
