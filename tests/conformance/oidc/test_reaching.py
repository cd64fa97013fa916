"""How the service reaches its issuers: TLS with an authority of their own, and names that change address."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.oidc.asking import PERSON, issued, unavailable
from tests.support.openid import MockServer
from tests.support.processes import RunningService, production_service, running
from tests.support.scripted import ScriptedServer
from tests.support.tls import TlsAuthority

MEMBERS = {"client-id": "sigstore", "type": "email"}

# The resolver of the service's own process: it answers a question as often as the list says, then the last.
RESOLVER = """
import socket

_answers = {answers!r}
_resolve = socket.getaddrinfo


def getaddrinfo(host, port, *arguments, **options):
    if host not in _answers:
        return _resolve(host, port, *arguments, **options)
    with open({record!r}, "a") as record:
        record.write(host + "\\n")
    answer = _answers[host].pop(0) if len(_answers[host]) > 1 else _answers[host][0]
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


socket.getaddrinfo = getaddrinfo
"""


@contextlib.contextmanager
def service_for(
    folder: Path, issuers: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> Iterator[RunningService]:
    text = yaml.safe_dump({"oidc-issuers": dict(issuers)})
    with running(production_service(folder / "ca", issuers=text, workers=1, environ=environ)) as started:
        yield started


def test_an_issuers_own_authority_is_trusted_for_that_issuer_alone(tmp_path: Path) -> None:
    ours, other = TlsAuthority.new("ours"), TlsAuthority.new("other")
    trust = tmp_path / "trust.pem"
    trust.write_text(ours.pem)
    with (
        MockServer(*ours.server("127.0.0.1", tmp_path / "good"), trust=trust) as good,
        MockServer(*ours.server("127.0.0.2", tmp_path / "elsewhere"), trust=trust) as misnamed,
        MockServer(*ours.server("127.0.0.1", tmp_path / "late", expired=True), trust=trust) as expired,
    ):
        issuers = {
            f"{good.url}/people": {**MEMBERS, "ca-cert": ours.pem},
            f"{good.url}/both": {**MEMBERS, "ca-cert": other.pem + ours.pem},
            f"{good.url}/public": MEMBERS,
            f"{good.url}/wrong": {**MEMBERS, "ca-cert": other.pem},
            f"{misnamed.url}/people": {**MEMBERS, "ca-cert": ours.pem},
            f"{expired.url}/people": {**MEMBERS, "ca-cert": ours.pem},
        }
        people = good.issuer("people")
        assert people.url.startswith("https://")
        with service_for(tmp_path, issuers) as service:
            issued(service, people.token(**PERSON))
            issued(service, good.issuer("both").token(**PERSON))
            for name in ("public", "wrong"):
                unavailable(service, good.issuer(name).token(**PERSON), "tls")
                assert good.asked(name) == []
            for server in (misnamed, expired):
                claims = {**PERSON, "iss": f"{server.url}/people"}
                unavailable(service, people.token(**claims), "tls")
            # And the good one is not spoiled by any of them.
            issued(service, people.token(**PERSON))


def test_a_name_that_changes_its_address_leads_nowhere_else(tmp_path: Path) -> None:
    """DNS rebinding: 127.0.0.2 is allowed, 127.0.0.1 is where the attacker would like to get."""
    allowed, forbidden = "127.0.0.2", "127.0.0.1"
    answers = {
        "steady.example": [[allowed]],
        "both.example": [[forbidden, allowed]],
        "rebound.example": [[allowed], [forbidden]],
        "forbidden.example": [[forbidden]],
    }
    record = tmp_path / "asked.txt"
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(RESOLVER.format(answers=answers, record=str(record)))
    path = os.pathsep.join(filter(None, [str(patch), os.environ.get("PYTHONPATH", "")]))
    environ = {"PYTHONPATH": path, "CASVC_OIDC__PRIVATE_NETWORKS": f'["{allowed}/32"]'}
    with ScriptedServer((allowed, forbidden)) as server:
        issuers = {name: server.issuer(name.partition(".")[0], name) for name in answers}
        with service_for(tmp_path, {issuer.url: MEMBERS for issuer in issuers.values()}, environ) as service:
            for name in ("steady.example", "both.example"):
                issued(service, issuers[name].token())
            for name in ("rebound.example", "forbidden.example"):
                unavailable(service, issuers[name].token(), "address-refused")
        assert {address for address, _ in server.asked} == {allowed}
        assert server.paths("rebound") == ["/rebound/.well-known/openid-configuration"]
        assert server.paths("forbidden") == []
    # Each document is one question to the resolver: there is no second answer to be tricked by.
    questions = record.read_text().split()
    assert {name: questions.count(name) for name in answers} == {
        "steady.example": 2,
        "both.example": 2,
        "rebound.example": 2,
        "forbidden.example": 1,
    }
