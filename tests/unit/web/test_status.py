"""OCSP and CRLs over HTTP: every way to write a request is read, and caches are told the truth."""

import base64
import hashlib
from dataclasses import replace
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from ca_service.authority.publication import PublishedCrl
from ca_service.authority.status import OcspAnswer
from ca_service.web.application import MAX_BODY
from ca_service.web.status import decode_ocsp_path
from tests.unit.web.conftest import MALFORMED, NOW, World

ANSWER = OcspAnswer(b"\x30\x00answer", True, NOW, NOW + 86400, 60, "e7a9")
LATER = OcspAnswer(b"\x30\x03later", False, NOW, NOW, 0, "", later=True)
NONCE_ANSWER = OcspAnswer(b"\x30\x00nonce", False, NOW, NOW + 86400, 60, "0")

# Octets whose base64 has slashes and plus signs, in all three lengths of padding, one ending in a slash.
REQUESTS = [b"\x30\x0f" + b"\xff\xff\xff\xfb\xef\xbe" + b"\x00" * n for n in range(3)] + [b"\x30\xff\xff"]


def written(request: bytes) -> dict[str, str]:
    """The ways clients write a request into the path."""
    text = base64.b64encode(request).decode()
    return {
        "as it is": text,
        "percent-encoded": quote(text, safe=""),
        "only slashes encoded": text.replace("/", "%2F"),
        "lower-case escapes": quote(text, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
        "without padding": text.rstrip("="),
        "base64url": base64.urlsafe_b64encode(request).decode(),
        "base64url without padding": base64.urlsafe_b64encode(request).decode().rstrip("="),
        "after a second slash": "/" + text,
        "after an encoded slash": "%2F" + text,
        "with a line end": text[:4] + "%0A" + text[4:] + "%0D%0A",
        "before a closing slash": text + "/",
    }


@pytest.mark.parametrize("request_der", REQUESTS)
@pytest.mark.parametrize("way", written(b""))
def test_a_request_in_the_path_is_read_however_it_is_written(
    client: FlaskClient, world: World, request_der: bytes, way: str
) -> None:
    world.responder.answers[request_der] = ANSWER
    reply = client.get("/ocsp/" + written(request_der)[way])
    assert reply.status_code == 200
    assert reply.data == ANSWER.der
    assert reply.content_type == "application/ocsp-response"


@pytest.mark.parametrize(
    "path",
    [
        "%252B",
        "!",
        "a b",
        "%00",
        "%FF%FE",
        "MEU%3DMEU",
        "A",
        "%D9%A1%D9%A1%D9%A1%D9%A1",
        "//",
        "..",
        "x" * 4000,
    ],
)
def test_what_is_no_request_is_answered_malformed(client: FlaskClient, world: World, path: str) -> None:
    reply = client.get("/ocsp/" + path)
    assert (reply.status_code, reply.data) == (200, MALFORMED)
    assert reply.headers["Cache-Control"] == "no-store"
    assert world.faults == []


def test_a_plus_is_never_a_space() -> None:
    assert decode_ocsp_path("+/+/") == base64.b64decode("+/+/")
    assert decode_ocsp_path(" / /") == b""


def test_a_request_in_the_body_is_answered(client: FlaskClient, world: World) -> None:
    world.responder.answers[b"request"] = ANSWER
    reply = client.post("/ocsp", data=b"request", content_type="application/ocsp-request")
    assert (reply.status_code, reply.data) == (200, ANSWER.der)
    assert reply.content_type == "application/ocsp-response"


def test_an_empty_or_strange_body_gets_an_ocsp_error_not_an_http_one(client: FlaskClient) -> None:
    for body in (b"", b"\x30", b"{}"):
        reply = client.post("/ocsp", data=body)
        assert (reply.status_code, reply.data) == (200, MALFORMED)


def test_a_body_beyond_the_limit_is_an_http_error(client: FlaskClient) -> None:
    assert client.post("/ocsp", data=b"x" * (MAX_BODY + 1)).status_code == 413


@pytest.mark.parametrize("header", [{}, {"If-None-Match": '"e7a9"'}], ids=["past Flask", "in Flask"])
def test_what_another_node_may_know_is_said_in_the_words_of_http_too(
    client: FlaskClient, world: World, header: dict[str, str]
) -> None:
    request_der = REQUESTS[0]
    world.responder.answers[request_der] = LATER
    by_get = client.get(f"/ocsp/{quote(base64.b64encode(request_der).decode(), safe='')}", headers=header)
    for reply in (by_get, client.post("/ocsp", data=request_der)):
        assert (reply.status_code, reply.data) == (503, LATER.der)
        assert reply.content_type == "application/ocsp-response"
        assert reply.headers["Retry-After"] == "1"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Accel-Expires"] == "0"


def test_a_cacheable_answer_tells_caches_how_long(client: FlaskClient, world: World) -> None:
    world.responder.answers[b"\x30\x00"] = ANSWER
    headers = client.get("/ocsp/MAA=").headers
    assert headers["Cache-Control"] == "max-age=60, public, no-transform, must-revalidate"
    assert headers["ETag"] == '"e7a9"'
    assert headers["Last-Modified"] == "Mon, 23 Nov 2026 08:00:00 GMT"
    assert headers["Expires"] == "Tue, 24 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    "condition",
    [
        {"If-None-Match": '"e7a9"'},
        {"If-None-Match": '"other", W/"e7a9"'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": "Mon, 23 Nov 2026 08:00:00 GMT"},
    ],
)
def test_an_unchanged_answer_is_not_sent_again(
    client: FlaskClient, world: World, condition: dict[str, str]
) -> None:
    world.responder.answers[b"\x30\x00"] = ANSWER
    reply = client.get("/ocsp/MAA=", headers=condition)
    assert (reply.status_code, reply.data) == (304, b"")
    assert reply.headers["ETag"] == '"e7a9"'


@pytest.mark.parametrize(
    "condition",
    [
        {"If-None-Match": '"old"'},
        {"If-Modified-Since": "Mon, 23 Nov 2026 07:59:59 GMT"},
        {"If-Modified-Since": "never"},
        {"If-None-Match": ',,"'},
    ],
)
def test_a_changed_answer_is_sent(client: FlaskClient, world: World, condition: dict[str, str]) -> None:
    world.responder.answers[b"\x30\x00"] = ANSWER
    reply = client.get("/ocsp/MAA=", headers=condition)
    assert (reply.status_code, reply.data) == (200, ANSWER.der)


def test_an_answer_for_one_asker_is_kept_by_nobody(client: FlaskClient, world: World) -> None:
    world.responder.answers[b"\x30\x00"] = NONCE_ANSWER
    reply = client.get("/ocsp/MAA=", headers={"If-None-Match": '"0"'})
    assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "no-store")
    assert "ETag" not in reply.headers


@pytest.fixture
def crl(world: World) -> PublishedCrl:
    published = PublishedCrl(
        url=f"http://ca.example/crl/{world.authority.key_id}/2026-11-0a.crl",
        der=bytes(range(256)) * 4,
        number=7,
        this_update=NOW,
        next_update=NOW + 604800,
    )
    world.crls.crls[world.authority.key_id, "2026-11-0a"] = published
    return published


def path_of(crl: PublishedCrl) -> str:
    return crl.url.removeprefix("http://ca.example")


def test_a_crl_is_served_with_what_caches_need(client: FlaskClient, crl: PublishedCrl) -> None:
    reply = client.get(path_of(crl))
    assert (reply.status_code, reply.data) == (200, crl.der)
    assert reply.content_type == "application/pkix-crl"
    assert reply.headers["Last-Modified"] == "Mon, 23 Nov 2026 08:00:00 GMT"
    assert "must-revalidate" in reply.headers["Cache-Control"]
    assert reply.headers["Accept-Ranges"] == "bytes"
    again = client.get(path_of(crl), headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    headed = client.head(path_of(crl))
    assert (headed.data, headed.headers["Content-Length"]) == (b"", "1024")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=512-99999", 512, 1024),
    ],
)
def test_a_part_of_a_crl_can_be_had(
    client: FlaskClient, crl: PublishedCrl, asked: str, start: int, end: int
) -> None:
    reply = client.get(path_of(crl), headers={"Range": asked})
    assert (reply.status_code, reply.data) == (206, crl.der[start:end])
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/1024"


def test_a_part_of_an_older_crl_is_answered_with_the_whole_new_one(
    client: FlaskClient, crl: PublishedCrl
) -> None:
    reply = client.get(path_of(crl), headers={"Range": "bytes=0-9", "If-Range": '"old"'})
    assert (reply.status_code, reply.data) == (200, crl.der)


def test_a_condition_on_another_version_fails(client: FlaskClient, crl: PublishedCrl) -> None:
    reply = client.get(path_of(crl), headers={"If-Match": '"old"'})
    assert (reply.status_code, reply.get_json()["code"]) == (412, 3)


def test_a_range_beyond_the_end_says_where_the_end_is(client: FlaskClient, crl: PublishedCrl) -> None:
    reply = client.get(path_of(crl), headers={"Range": "bytes=2000-"})
    assert reply.status_code == 416
    assert reply.headers["Content-Range"] == "bytes */1024"
    assert reply.get_json()["code"] == 3


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=", "bytes=9-1", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_that_cannot_be_served_is_ignored_or_refused(
    client: FlaskClient, world: World, crl: PublishedCrl, asked: str
) -> None:
    reply = client.get(path_of(crl), headers={"Range": asked})
    assert reply.status_code in (200, 416)
    assert world.faults == []


@pytest.mark.parametrize(
    "path",
    [
        "/crl/{key}/2026-11-0b.crl",
        "/crl/{key}/2026-11-0A.crl",
        "/crl/{KEY}/2026-11-0a.crl",
        "/crl/{key}/%00.crl",
        "/crl/{key}/\u0661.crl",
        "/crl/{key}/" + "a" * 65 + ".crl",
        "/crl/{key}/..%2F..%2Fx.crl",
        "/crl/" + "0" * 40 + "/2026-11-0a.crl",
        "/crl/\u0661/root.crl",
        "/crl/{key}/.crl",
        "/crl/{key}/2026-11-0a",
    ],
)
def test_another_name_is_not_found_without_asking_the_store(
    client: FlaskClient, world: World, crl: PublishedCrl, path: str
) -> None:
    key = world.authority.key_id
    reply = client.get(path.replace("{key}", key).replace("{KEY}", "A" + key[1:].upper()))
    assert reply.status_code == 404
    assert world.faults == []


def test_the_index_lists_every_crl(client: FlaskClient, crl: PublishedCrl) -> None:
    assert client.get("/crl/index.json").get_json() == {
        "crls": [
            {
                "url": crl.url,
                "number": 7,
                "sha256": hashlib.sha256(crl.der).hexdigest(),
                "thisUpdate": "2026-11-23T08:00:00Z",
                "nextUpdate": "2026-11-30T08:00:00Z",
            }
        ]
    }


def test_the_issuing_certificate_is_served_as_der(client: FlaskClient, world: World) -> None:
    reply = client.get(f"/ca/{world.authority.key_id}.crt")
    assert (reply.status_code, reply.content_type) == (200, "application/pkix-cert")
    assert reply.data == world.authority.chain_der[0]
    for other in ("0" * 40, "..", "%00" * 40, "\u0661" * 40):
        assert client.get(f"/ca/{other}.crt").status_code == 404


def test_a_date_is_not_heeded_where_two_answers_may_have_it(
    client: FlaskClient, world: World, crl: PublishedCrl
) -> None:
    world.crls.crls[world.authority.key_id, "2026-11-0a"] = replace(crl, dated=False)
    world.responder.answers[b"\x30\x00"] = replace(ANSWER, dated=False)
    same = {"If-Modified-Since": "Mon, 23 Nov 2026 08:00:00 GMT"}
    for path, whole in ((path_of(crl), crl.der), ("/ocsp/MAA=", ANSWER.der)):
        reply = client.get(path, headers=same)
        assert (reply.status_code, reply.data) == (200, whole)
        assert reply.headers["Last-Modified"] == same["If-Modified-Since"]
        tag = {"If-None-Match": reply.headers["ETag"]}
        assert client.get(path, headers=tag).status_code == 304
    part = {"Range": "bytes=0-9", "If-Range": same["If-Modified-Since"]}
    assert client.get(path_of(crl), headers=part).data == crl.der
    part = {"Range": "bytes=0-9"}
    assert client.get(path_of(crl), headers=part).data == crl.der[:10]
