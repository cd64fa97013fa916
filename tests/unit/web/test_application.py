"""What holds for every call: limits, request ids, headers, the one error shape, the access log."""

import io
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, run_wsgi_app

from ca_service.errors import (
    CAError,
    ConfigurationError,
    IssuerUnavailable,
    NotFound,
    PermissionDenied,
    ProofInvalid,
    RateLimited,
    Unimplemented,
)
from ca_service.web.application import MAX_BODY, base_app
from ca_service.web.problems import reason_phrase
from tests.unit.web.conftest import World

V2 = "/api/v2/signingCert"


def chunked(app: Flask, stream: io.BytesIO) -> tuple[str, bytes]:
    """Send a body without a length, as gunicorn hands over a chunked one."""
    builder = EnvironBuilder("/api/v2/signingCert", method="POST", input_stream=stream)
    environ = builder.get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ["wsgi.input_terminated"] = True
    body, status, _ = run_wsgi_app(app.wsgi_app, environ)
    return status, b"".join(body)


def test_a_body_beyond_the_limit_is_refused_unread(client: FlaskClient) -> None:
    reply = client.post(V2, data=b"x" * (MAX_BODY + 1))
    assert reply.status_code == 413
    assert reply.get_json()["details"][0]["reason"] == "body-too-large"


def test_a_chunked_body_is_read_up_to_the_limit_and_not_beyond(world: World) -> None:
    stream = io.BytesIO(b" " * 10_000_000)
    status, body = chunked(world.app(), stream)
    assert status.startswith("413 ")
    assert b"body-too-large" in body
    assert stream.tell() < 3 * MAX_BODY


def test_a_short_chunked_body_is_read_whole(world: World) -> None:
    status, body = chunked(world.app(), io.BytesIO(b'{"credentials":7}'))
    assert status.startswith("400 ")
    assert b"credentials must be an object" in body


def test_a_body_shorter_than_announced_is_the_callers_fault(client: FlaskClient, world: World) -> None:
    reply = client.post(V2, input_stream=io.BytesIO(b"{"), headers={"Content-Length": "400"})
    assert reply.status_code == 400
    assert world.faults == []


def test_every_reply_has_an_id_of_its_own(client: FlaskClient, world: World) -> None:
    ids = {client.get("/healthz").headers["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3
    assert set(world.began) == ids


def test_a_sane_id_from_the_proxy_is_kept(client: FlaskClient) -> None:
    reply = client.get("/nowhere", headers={"X-Request-Id": "proxy-1234:5"})
    assert reply.headers["X-Request-Id"] == "proxy-1234:5"
    assert reply.get_json()["details"][0]["metadata"]["requestId"] == "proxy-1234:5"


@pytest.mark.parametrize("sent", ["", "short", "x" * 65, 'a"b<c>d e;f', "12345678\u00e9", "-rf --all-of-it"])
def test_any_other_id_is_replaced(client: FlaskClient, sent: str) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": sent}).headers["X-Request-Id"] != sent


def test_every_reply_carries_the_security_headers(client: FlaskClient) -> None:
    for path in ("/healthz", "/nowhere", "/crl/index.json", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Cache-Control" in headers


def test_an_error_names_what_to_do_and_carries_its_facts(client: FlaskClient, world: World) -> None:
    world.issuance.trouble = ProofInvalid("the proof does not verify", challenge_claim="email")
    reply = client.post(
        V2, json={"certificateSigningRequest": "AAAA"}, headers={"Authorization": "Bearer a.b.c"}
    )
    assert reply.get_json() == {
        "code": 3,
        "message": "the proof does not verify",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "proof-invalid",
                "domain": "ca-service",
                "metadata": {
                    "challengeClaim": "email",
                    "remedy": ProofInvalid.remedy,
                    "requestId": reply.headers["X-Request-Id"],
                },
            }
        ],
    }
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [
        (NotFound("x"), 404, 5),
        (PermissionDenied("x"), 403, 7),
        (RateLimited("x", retry_after=30), 429, 8),
        (Unimplemented("x"), 501, 12),
        (IssuerUnavailable("x"), 503, 14),
    ],
)
def test_each_kind_of_error_has_its_status(
    client: FlaskClient, world: World, trouble: CAError, status: int, code: int
) -> None:
    world.issuance.trouble = trouble
    reply = client.post(
        V2, json={"certificateSigningRequest": "AAAA"}, headers={"Authorization": "Bearer a.b.c"}
    )
    assert (reply.status, reply.get_json()["code"]) == (f"{status} x", code)
    assert ("Retry-After" in reply.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    "trouble", [ZeroDivisionError("secret"), ConfigurationError("secret"), CAError("secret")]
)
def test_a_fault_of_ours_tells_the_caller_nothing_but_the_id(
    client: FlaskClient, world: World, trouble: Exception
) -> None:
    world.issuance.trouble = trouble
    reply = client.post(
        V2, json={"certificateSigningRequest": "AAAA"}, headers={"Authorization": "Bearer a.b.c"}
    )
    assert reply.status == "500 internal error"
    assert "secret" not in reply.text
    assert reply.get_json()["code"] == 13
    assert world.faults == [(reply.headers["X-Request-Id"], trouble)]


def test_without_a_listener_a_fault_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = base_app()

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("in the log alone")

    with caplog.at_level(logging.ERROR, logger="ca_service.web"):
        reply = app.test_client().get("/broken")
    assert reply.status_code == 500
    assert reply.headers["X-Request-Id"] in caplog.text
    assert "in the log alone" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", V2, {"OPTIONS", "POST"}),
        ("HEAD", V2, {"OPTIONS", "POST"}),
        ("DELETE", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/ocsp", {"OPTIONS", "POST"}),
        ("BREW", "/", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    client: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    reply = client.open(path, method=method)
    assert reply.status_code == 405
    assert set(reply.headers["Allow"].split(", ")) == allowed
    if method != "HEAD":
        assert reply.get_json()["details"][0]["reason"] == "method-not-allowed"


@pytest.mark.parametrize(
    "path", ["/healthz/", "/crl//index.json", "/api/v2/signingcert", "/static/x", "/%00", "/\u00e9"]
)
def test_an_unknown_path_is_not_found_and_never_redirected(client: FlaskClient, path: str) -> None:
    reply = client.open(path)
    assert reply.status_code == 404
    problem = reply.get_json()
    assert (problem["code"], problem["details"][0]["reason"]) == (5, "not-found")
    assert reply.status == "404 there is nothing at this path"


def test_head_gives_the_headers_of_get_alone(client: FlaskClient) -> None:
    got, headed = client.get("/openapi.json"), client.head("/openapi.json")
    assert (headed.status_code, headed.data) == (200, b"")
    assert headed.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("host", ["", "a b", "\u00e9", "x" * 5000, "ca.example:99999999", "[::1", "a/b@c"])
def test_a_strange_host_is_no_fault_of_ours(client: FlaskClient, world: World, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code in (200, 400)
    assert world.faults == []


def test_the_access_log_has_routes_and_no_paths(client: FlaskClient, world: World) -> None:
    client.get("/ctlog/2026/ct/v1/get-sth")
    client.get("/nowhere/alice@example.com")
    client.open("/healthz", method="BREW")
    client.post(V2, data=b"{")
    assert [(each.method, each.route, each.status, each.reason) for each in world.records] == [
        ("GET", "/ctlog/<shard>/ct/v1/get-sth", 200, None),
        ("GET", None, 404, "not-found"),
        ("OTHER", None, 405, "method-not-allowed"),
        ("POST", "/api/v2/signingCert", 400, "malformed-request"),
    ]
    assert all(0 <= each.milliseconds < 10_000 for each in world.records)
    assert [each.request_id for each in world.records] == world.began


@pytest.mark.parametrize(
    ("sentence", "phrase"),
    [
        ("plain", "plain"),
        ("caf\u00e9 \u2014 \u0661", "caf? ? ?"),
        ("two\r\nSet-Cookie: lines\x00", "two??Set-Cookie: lines?"),
        ("x" * 500, "x" * 200),
        (" padded ", "padded"),
        ("", "error"),
    ],
)
def test_a_reason_phrase_is_short_printable_ascii(sentence: str, phrase: str) -> None:
    assert reason_phrase(sentence) == phrase
