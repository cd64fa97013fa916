"""Only a trusted proxy may say who asked."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from ca_service.web.proxies import behind

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CLAIM = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7", "X-Forwarded-Proto": "https"}


def told(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    claims = [name for name in environ if name.startswith("HTTP_X_FORWARDED") or name == "HTTP_FORWARDED"]
    text = f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']} {len(claims)}"
    return Response(text)(environ, start_response)


def asked(peer: str, proxies: tuple[str, ...], headers: dict[str, str]) -> Any:
    client = Client(behind(proxies, told))
    return client.get("/", headers=headers, environ_overrides={"REMOTE_ADDR": peer}).text


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::7"])
def test_the_last_hop_of_a_trusted_proxy_is_believed(peer: str) -> None:
    assert asked(peer, ("10.0.0.0/8", "fd00::/8"), CLAIM).startswith("203.0.113.7 https")


@pytest.mark.parametrize("peer", ["192.0.2.9", "11.0.0.1", "fe80::1"])
def test_what_others_claim_is_dropped(peer: str) -> None:
    claims = {**CLAIM, "Forwarded": "for=203.0.113.7", "X-Forwarded-Host": "evil.example"}
    assert asked(peer, ("10.0.0.0/8", "fd00::/8"), claims) == f"{peer} http 0"


def test_a_unix_socket_is_reached_by_local_processes_only() -> None:
    assert asked("", ("127.0.0.0/8",), CLAIM).startswith("203.0.113.7 https")
