"""/admin/v1: every call asks for its role, and takes and gives exactly what it says."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ca_service.authority.administrators import Role
from ca_service.authority.facts import audit_from, certificate_from
from ca_service.errors import RolledBack
from ca_service.web.admin import PREFIX
from ca_service.web.admin.endpoints import MOST_RECORDS
from ca_service.web.openapi import document
from tests.support.signing import bearer
from tests.unit.web.administration import ALL_POWERFUL, CERTIFICATE, TOKENS
from tests.unit.web.conftest import AUTHORITY, World, make_world

SELECTOR = {"identity": "ada@example.com"}

# Every call: the role that it needs, and a body that it takes. A call that is not here fails a test.
CALLS: Mapping[tuple[str, str], tuple[Role | None, Any]] = {
    ("GET", "/login-options"): (None, None),
    ("GET", "/whoami"): (Role.VIEWER, None),
    ("POST", "/certificates/search"): (Role.VIEWER, {"selector": SELECTOR}),
    ("GET", "/certificates/0a1b2c"): (Role.VIEWER, None),
    ("POST", "/revocations/preview"): (Role.VIEWER, {"selector": SELECTOR}),
    ("POST", "/revocations/certificate"): (Role.REVOKER, {"serial": "0a1b2c"}),
    ("POST", "/revocations/identity"): (Role.REVOKER, {"selector": SELECTOR}),
    ("POST", "/revocations/withdraw"): (Role.ADMINISTRATOR, {"serial": "0a1b2c", "comment": "a mistake"}),
    ("GET", "/blocks"): (Role.VIEWER, None),
    ("POST", "/blocks"): (Role.REVOKER, {"selector": SELECTOR}),
    ("POST", "/blocks/remove"): (Role.ADMINISTRATOR, {"number": 1}),
    ("GET", "/audit"): (Role.VIEWER, None),
    ("GET", "/audit/verification"): (Role.VIEWER, None),
}


def routes() -> list[tuple[str, str]]:
    """Every call that the application has below /admin/v1, with the parts of its path filled in."""
    return sorted(
        (method, re.sub(r"<hex:serial>", "0a1b2c", rule.rule).removeprefix(PREFIX))
        for rule in make_world(AUTHORITY).app().url_map.iter_rules()
        if rule.rule.startswith("/admin")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    )


def ask(
    client: FlaskClient, method: str, path: str, body: Any = None, token: str = ALL_POWERFUL
) -> TestResponse:
    return client.open(PREFIX + path, method=method, json=body, headers=bearer(token))


def fill(world: World) -> FlaskClient:
    """A client of a world where something is revoked and blocked, so that it can be taken away."""
    client = world.app().test_client()
    assert ask(client, "POST", "/revocations/certificate", {"serial": "0a1b2c"}).status_code == 200
    assert ask(client, "POST", "/blocks", {"selector": SELECTOR}).status_code == 200
    return client


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_call_is_closed_to_strangers_and_open_to_its_role_alone(
    world: World, method: str, path: str
) -> None:
    needed, body = CALLS[method, path]
    client = fill(world)
    stranger = client.open(PREFIX + path, method=method, json=body)
    assert stranger.headers["Cache-Control"] == "no-store"
    if needed is None:
        assert stranger.status_code == 200
        return
    assert stranger.status_code == 401
    assert stranger.headers["WWW-Authenticate"].startswith("Bearer ")
    before = len(world.desk.records)
    for token, role in TOKENS.items():
        reply = ask(client, method, path, body, token)
        assert reply.status_code == (200 if role >= needed else 403), (role, reply.text)
        if role < needed:
            assert reply.get_json()["details"][0]["metadata"]["needed"] == needed.label
            assert len(world.desk.records) == before
        else:
            assert reply.headers["RateLimit-Remaining"] == "599"
            break
    described: Any = document()["paths"]
    (operation,) = [
        item[method.lower()]
        for pattern, item in described.items()
        if pattern.replace("{serial}", "0a1b2c") == PREFIX + path and method.lower() in item
    ]
    assert operation["x-role"] == needed.label


def test_every_call_of_the_table_is_there() -> None:
    assert set(CALLS) == set(routes())


def test_no_page_of_another_origin_may_call_it(client: FlaskClient) -> None:
    for method in ("GET", "OPTIONS"):
        reply = client.open(
            f"{PREFIX}/whoami",
            method=method,
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
        )
        assert not [name for name, _ in reply.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Bearer ", "Bearerx", "Token viewer.is.good"])
def test_only_a_bearer_token_is_one(world: World, header: str) -> None:
    client = world.app().test_client()
    assert client.get(f"{PREFIX}/whoami", headers={"Authorization": header}).status_code == 401
    assert world.gate.approaches[-1].token is None


def test_the_gate_hears_the_pattern_and_where_the_call_came_from(world: World) -> None:
    client = world.app().test_client()
    path = f"{PREFIX}/certificates/0a1b2c"
    client.get(path, headers={"X-Request-Id": "request-4711"}, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    (approach,) = world.gate.approaches
    assert approach.route == "GET /admin/v1/certificates/<hex:serial>"
    assert (approach.source, approach.request_id) == ("192.0.2.7", "request-4711")


def test_closed_administration_says_how_to_open_it(world: World) -> None:
    world.gate.open = False
    client = world.app().test_client()
    for path in ("/login-options", "/whoami"):
        reply = ask(client, "GET", path)
        assert reply.status_code == 403
        assert "admin_role" in reply.get_json()["details"][0]["metadata"]["remedy"]


REFUSED: Mapping[str, tuple[str, Any, str]] = {
    "unknown member": ("/revocations/certificate", {"serial": "0a", "reson": "x"}, "no member 'reson'"),
    "unknown member of the selector": (
        "/certificates/search",
        {"selector": {"identities": "x"}},
        "no member 'identities'",
    ),
    "another case of a member": (
        "/revocations/identity",
        {"selector": SELECTOR, "blockExpires": "2027-01-01"},
        "no member 'blockExpires'",
    ),
    "no selector": ("/revocations/identity", {}, "lacks selector"),
    "empty selector": ("/certificates/search", {"selector": {}}, "at least one of"),
    "selector as text": ("/certificates/search", {"selector": "ada@example.com"}, "a JSON object"),
    "a wrong serial": ("/revocations/certificate", {"serial": "xyz"}, "hex"),
    "no serial": ("/revocations/certificate", {"reason": "superseded"}, "lacks serial"),
    "a wrong reason": ("/revocations/certificate", {"serial": "0a", "reason": "certificateHold"}, "one of"),
    "a wrong time": (
        "/revocations/certificate",
        {"serial": "0a", "revocation_date": "9999-12-31T23:59:59-23:00"},
        "RFC 3339",
    ),
    "a flag as text": ("/revocations/identity", {"selector": SELECTOR, "block": "no"}, "true or false"),
    "a limit too high": ("/certificates/search", {"selector": SELECTOR, "limit": 10**9}, "limit must be"),
    "a limit of none": ("/certificates/search", {"selector": SELECTOR, "limit": 0}, "limit must be"),
    "half a surrogate": ("/certificates/search", {"selector": {"identity": "\ud800"}}, "surrogate"),
    "a NUL": ("/blocks", {"selector": SELECTOR, "reason": "a\0b"}, "NUL"),
    "both of two": ("/blocks/remove", {"selector": SELECTOR, "number": 1}, "not both"),
    "none of two": ("/blocks/remove", {"comment": "x"}, "selector or number"),
    "a list": ("/blocks", [], "a JSON object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_changes_nothing_and_is_named(world: World, name: str) -> None:
    path, body, sentence = REFUSED[name]
    reply = ask(world.app().test_client(), "POST", path, body)
    assert reply.status_code == 400
    assert sentence in reply.get_json()["message"]
    assert world.desk.records == []


@pytest.mark.parametrize(
    "query", ["after=-1", "after=1&after=2", "limit=0", "limit=1001", "before=3", "after=٣"]
)
def test_the_query_is_as_strict(client: FlaskClient, query: str) -> None:
    assert ask(client, "GET", f"/audit?{query}").status_code == 400


def test_certificates_are_found_and_read_back(world: World) -> None:
    client = fill(world)
    (found,) = ask(client, "POST", "/certificates/search", {"selector": SELECTOR}).get_json()["certificates"]
    certificate, revocation = certificate_from(found)
    assert certificate == CERTIFICATE
    assert revocation == world.desk.revocation
    assert ask(client, "GET", "/certificates/0a1b2c").get_json() == found
    assert ask(client, "GET", "/certificates/0b").status_code == 404
    assert ask(client, "GET", "/certificates/ada@example.com").status_code == 404


def test_the_owner_of_the_token_is_told_who_they_are(client: FlaskClient) -> None:
    assert ask(client, "GET", "/whoami", token="revoker.is.good").get_json() == {
        "subject": "7",
        "issuer": "https://staff.example.com",
        "name": "Ada",
        "roles": ["viewer", "revoker"],
        "expires": "2026-11-23T08:10:00Z",
    }


def test_acts_are_recorded_with_the_owner_of_the_token(world: World) -> None:
    client = fill(world)
    body = {"serial": "0a1b2c", "comment": "typed the wrong serial"}
    assert ask(client, "POST", "/revocations/withdraw", body).status_code == 200
    actors = {record.actor.name for record in world.desk.records}
    assert actors == {"https://staff.example.com#7"}
    assert [record.action for record in world.desk.records] == ["revoke-certificate", "block", "withdraw"]


def test_the_audit_record_comes_in_pages_or_whole_as_json_lines(world: World) -> None:
    client = fill(world)
    for _ in range(MOST_RECORDS):
        world.desk._record(world.desk.records[0].actor, "block", "again")
    pages, after = [], 0
    while page := ask(client, "GET", f"/audit?after={after}&limit=400").get_json()["records"]:
        assert len(page) <= 400
        pages += page
        after = page[-1]["sequence"]
    assert [audit_from(each) for each in pages] == world.desk.records
    lines = client.get(
        f"{PREFIX}/audit?after=2", headers={**bearer(ALL_POWERFUL), "Accept": "application/jsonl"}
    )
    assert lines.content_type == "application/jsonl"
    assert [json.loads(line) for line in lines.text.splitlines()] == pages[2:]


def test_a_broken_chain_is_said_and_not_hidden(world: World) -> None:
    client = fill(world)
    assert ask(client, "GET", "/audit/verification").get_json()["intact"] is True
    world.desk.broken = "audit record 2 or the one before it was changed"
    told = ask(client, "GET", "/audit/verification").get_json()
    assert told == {"intact": False, "message": world.desk.broken}


def test_trouble_of_the_desk_is_told_as_everywhere(world: World) -> None:
    world.desk.trouble = RolledBack("the database is behind")
    reply = ask(world.app().test_client(), "POST", "/blocks", {"selector": SELECTOR})
    assert (reply.status_code, reply.get_json()["details"][0]["reason"]) == (503, "rolled-back")
