"""Tokens of a real issuer over HTTP on loopback: verifier and outbound client as the service joins them."""

import time

import pytest

from ca_service.errors import IssuerUnavailable, TokenKeyUnknown
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.principal import principal_for
from ca_service.oidc.verifier import TokenVerifier
from ca_service.outbound.client import OutboundClient
from tests.support.issuer import LocalIssuer

EMAIL = "someone@example.com"


def verifier(issuer: LocalIssuer, networks: list[str]) -> TokenVerifier:
    directory = parse_issuer_file(issuer.issuer_file(), "issuers.yaml")
    return TokenVerifier(lambda: directory, OutboundClient(networks).get, lambda: time.time_ns() // 1_000_000)


def test_a_token_is_believed_and_goes_on_being_so_when_its_issuer_is_gone() -> None:
    with LocalIssuer() as issuer:
        tested = verifier(issuer, ["127.0.0.0/8"])
        assert principal_for(tested.verify(issuer.token(EMAIL))).subject.value == EMAIL
        with pytest.raises(TokenKeyUnknown):
            tested.verify(issuer.sign({"iss": issuer.url}, {"kid": "made-up"}))
    assert principal_for(tested.verify(issuer.token(EMAIL))).subject.value == EMAIL


def test_an_issuer_on_a_private_address_is_not_asked_unless_its_network_is_listed() -> None:
    with LocalIssuer() as issuer:
        with pytest.raises(IssuerUnavailable) as raised:
            verifier(issuer, []).verify(issuer.token(EMAIL))
        assert raised.value.facts["cause"] == "address-refused"
        assert "private_networks" in raised.value.message
