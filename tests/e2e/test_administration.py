"""Administration over the network: who may, what is recorded, and what no stranger can do to the record."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.e2e.conftest import TWO_NODES
from tests.support.administration import AUDIENCE, FAILURES, Administered, administered, cli
from tests.support.cluster import Cluster
from tests.support.issuer import LocalIssuer
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.verifier import ask_ocsp, ocsp_url


@pytest.fixture(scope="module")
def world(
    place: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Administered]:
    if place == TWO_NODES:
        cluster: Cluster = request.getfixturevalue("cluster")
        yield Administered(request.getfixturevalue("two_nodes"), cluster.signers, cluster.staff)
        return
    limits = {"CASVC_ADMIN__FAILURES_PER_MINUTE": str(FAILURES)}
    with administered(tmp_path_factory.mktemp("administration"), limits) as started:
        yield started


def other_key(world: Administered) -> str:
    """A token that says all the right things, signed by somebody else under the same key id."""
    with LocalIssuer() as forger:
        forger.url = world.staff.url
        return forger.token("a@staff.example.com", claims={"aud": AUDIENCE, "groups": ["ca-administrator"]})


BAD: dict[str, tuple[Callable[[Administered], str | None], str]] = {
    "none": (lambda world: None, "token-missing"),
    "no token at all": (lambda world: "garbage", "token-malformed"),
    "alg none": (
        lambda world: world.staff.sign({"iss": world.staff.url, "aud": AUDIENCE}, {"alg": "none"}),
        "token-algorithm-refused",
    ),
    "for signing": (lambda world: world.token(aud="sigstore"), "token-audience-mismatch"),
    "for two": (lambda world: world.token(aud=[AUDIENCE, "other"]), "token-audience-mismatch"),
    "for another client": (lambda world: world.token(azp="grafana"), "token-audience-mismatch"),
    "expired": (lambda world: world.token(exp=1_700_000_000), "token-expired"),
    "too old": (lambda world: world.token(iat=1_700_000_000), "token-expired"),
    "of no age": (
        lambda world: world.staff.sign(
            {"iss": world.staff.url, "sub": "7", "aud": AUDIENCE, "exp": int(time.time()) + 600}
        ),
        "token-claim-missing",
    ),
    "of an issuer nobody named": (
        lambda world: world.staff.sign({"iss": "https://evil.example", "aud": AUDIENCE}),
        "token-issuer-unknown",
    ),
    "forged": (other_key, "token-signature-invalid"),
    "a signer's": (
        lambda world: world.signers.token("both@example.com"),
        "token-audience-mismatch",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_with_its_cause_and_counted(world: Administered, name: str) -> None:
    make, cause = BAD[name]
    before = world.metric("admin_unauthenticated", cause=cause)
    reply = world.ask("GET", "/whoami", make(world))
    assert reply.status_code == 401, reply.text
    (info,) = reply.json()["details"]
    assert (info["reason"], info["metadata"]["cause"]) == ("unauthenticated", cause)
    challenge = reply.headers["WWW-Authenticate"]
    assert ('error="invalid_token"' in challenge) == (name != "none")
    assert world.metric("admin_unauthenticated", cause=cause) == before + 1


def test_a_flood_without_a_good_token_is_slowed_and_leaves_the_record_as_it_was(world: Administered) -> None:
    before = world.audit()
    with world.service.http() as session:
        # From an address of its own, so that other tests are not slowed.
        for scheme in ("http://", "https://"):
            session.mount(scheme, _From("127.0.0.77"))
        url = f"{world.service.url}/admin/v1"
        asked = 0
        while (status := session.post(f"{url}/blocks", json={}, timeout=60).status_code) != 429:
            assert status == 401
            asked += 1
            # Each process counts for itself, and begins anew when the minute is over.
            assert asked <= 100 * FAILURES, "nobody was ever told to wait"
        assert asked >= FAILURES
        # Whoever has a good token is not held up by it, even from the same address.
        assert session.get(f"{url}/whoami", headers=bearer(world.token()), timeout=60).status_code == 200
    assert world.audit() == before


class _From(HTTPAdapter):
    """Connects from this address of the machine."""

    def __init__(self, source: str) -> None:
        self._source = source
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._source, 0))


def test_a_valid_outsider_is_refused_and_recorded_once_a_minute(world: Administered) -> None:
    outsider = world.token("nobody", groups=["cooks"])
    before, counted = len(world.audit()), world.metric("admin_refusal_not_recorded")
    for _ in range(12):
        reply = world.ask("POST", "/blocks", outsider, {"selector": {"identity": "x"}})
        assert reply.status_code == 403
        assert reply.json()["details"][0]["reason"] == "forbidden"
    new = world.audit()[before:]
    # A process to which Redis, on a busy machine, did not answer soon enough counts for itself.
    assert 1 <= len(new) <= len(world.service.workers())
    for each in new:
        assert (each["action"], each["actor"]) == (
            "refused",
            f"{world.staff.url}#sub-of-nobody@staff.example.com",
        )
        assert each["detail"] == {"route": "POST /admin/v1/blocks", "needed": "revoker", "held": None}
    assert world.metric("admin_refusal_not_recorded") == counted + 12 - len(new)


def test_an_administrators_token_gets_no_certificate_and_a_signers_does_not_administer(
    world: Administered, session: requests.Session
) -> None:
    token = world.signers.token("both@example.com", claims={"aud": AUDIENCE})
    assert world.ask("GET", "/whoami", token).json()["roles"] == ["viewer"]
    for admin in (token, world.token()):
        reply = session.post(
            f"{world.service.url}/api/v2/signingCert",
            json=key_body(new_key(), "both@example.com"),
            headers=bearer(admin),
            timeout=60,
        )
        assert reply.status_code == 400
        assert reply.json()["details"][0]["reason"] in ("token-audience-mismatch", "token-issuer-unknown")


def test_an_act_over_the_network_counts_at_once_and_is_recorded_with_who_and_from_where(
    world: Administered, session: requests.Session, tmp_path: Path
) -> None:
    email = "stolen@example.com"
    first = issue(session, world.service.url, world.signers.token(email), email)
    before = len(world.audit())
    done = world.remotely(
        *("revoke", "identity", "--identity", email, "--reason", "keyCompromise"),
        *("--comment", "laptop stolen", "--json"),
        who="revoker",
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["revoked"] == 1
    folder = first.write(tmp_path / "first")
    assert ask_ocsp(folder, ocsp_url(first.leaf)).status == "revoked"
    refused = session.post(
        f"{world.service.url}/api/v2/signingCert",
        json=key_body(new_key(), email),
        headers=bearer(world.signers.token(email)),
        timeout=60,
    )
    assert refused.json()["details"][0]["reason"] == "identity-blocked"
    (record,) = world.audit()[before:]
    assert record["actor"] == f"{world.staff.url}#sub-of-revoker@staff.example.com"
    assert record["source"] == "127.0.0.1"
    assert len(record["request_id"]) >= 8
    # A revoker makes things stricter only.
    for verb in (("withdraw", first.serial), ("unblock", "--identity", email)):
        kept = world.remotely(*verb, "--comment", "no", who="revoker")
        assert kept.exit_code == 3
        assert "needs the role administrator" in kept.stderr
        assert world.remotely(*verb, "--comment", "a mistake").exit_code == 0
    issue(session, world.service.url, world.signers.token(email), email)


def test_verbs_say_the_same_over_the_network_as_on_the_host(
    world: Administered, session: requests.Session
) -> None:
    email = "same@example.com"
    issued = issue(session, world.service.url, world.signers.token(email), email)
    assert world.on_host("block", "--identity", "other@example.com", "--reason", "left").exit_code == 0
    assert world.remotely("revoke", "certificate", issued.serial, "--comment", "x").exit_code == 0
    verbs: list[tuple[str, ...]] = [
        ("find", "--identity", email),
        ("find", "--identity", email, "--json"),
        ("find", "--identity", "nobody@example.com"),
        ("find", "--since", "2026-02-30"),
        ("revoke", "certificate", issued.serial, "--json"),
        ("revoke", "certificate", "0badcafe"),
        ("revoke", "certificate", issued.serial, "--revocation-date", "2999-01-01"),
        ("revoke", "identity", "--identity", email, "--dry-run"),
        ("revoke", "identity", "--identity", email, "--dry-run", "--json"),
        ("revoke", "identity", "--since", "2026-01-01"),
        ("block", "--identity", "*"),
        ("blocks",),
        ("blocks", "--json"),
        ("unblock", "--number", "4711", "--comment", "x"),
        ("withdraw", "0badcafe", "--comment", "x"),
        ("audit",),
        ("audit", "--json"),
        ("audit", "--verify"),
    ]
    for verb in verbs:
        here, there = (
            # A second may have passed between the two.
            (
                done.exit_code,
                done.stdout,
                re.sub(r"\bnow is \S+Z$", "now is NOW", done.stderr, flags=re.MULTILINE),
            )
            for done in (world.on_host(*verb), world.remotely(*verb))
        )
        assert there == here, verb


def test_json_lines_carry_the_whole_record(world: Administered) -> None:
    lines = world.ask("GET", "/audit", world.token("viewer"), Accept="application/jsonl")
    assert lines.headers["Content-Type"] == "application/jsonl"
    assert [json.loads(line) for line in lines.text.splitlines()] == world.audit()


def test_a_verb_must_be_told_where_and_never_shows_a_token_to_others(
    world: Administered, tmp_path: Path
) -> None:
    def fails(*arguments: str | Path, code: int, says: str, **more: Any) -> None:
        result = cli("blocks", *arguments, certificates=trusted, **more)
        assert result.exit_code == code, result.stderr
        assert says in result.stderr

    url, config, trusted = world.service.url, world.service.config, world.service.certificates
    fails(code=2, says="--config FILE on its host, or --server URL")
    fails("--config", config, "--server", url, code=2, says="not both")
    fails("--config", config, "--token-file", "-", code=2, says="--token-file is for --server")
    fails("--server", "http://ca.example.com", code=2, says="in plain text", token="a.b.c")
    fails("--server", url + "/admin", code=2, says="--server: expected a URL without a path", token="a.b.c")
    fails("--server", url, code=2, says="three base64url parts", token="rubbish")
    fails("--server", url, code=3, says="there is no token for", home=tmp_path)
    fails("--server", url, code=3, says="login --server", token=world.token(exp=1_700_000_000))
    fails("--server", "http://127.0.0.1:9", code=3, says="does not answer", token="a.b.c")
    fails("--server", world.staff.url, code=3, says="no ca-service", token="a.b.c")
    given = tmp_path / "token"
    given.write_text(world.token() + "\n")
    read = cli("blocks", "--server", url, "--token-file", given, certificates=trusted)
    typed = cli("blocks", "--server", url, "--token-file", "-", stdin=given.read_text(), certificates=trusted)
    assert (read.exit_code, typed.exit_code) == (0, 0)


def test_nothing_of_it_stands_in_the_log(world: Administered) -> None:
    token = world.token()
    world.ask("POST", "/certificates/search", token, {"selector": {"identity": "searched@example.com"}})
    printed = world.service.printed()
    assert "/admin/v1/certificates/search" in printed
    for piece in ("searched@example.com", "staff.example.com", "ca-administrator", token.split(".")[2][:40]):
        assert piece not in printed
