"""Trust material has the shape all Sigstore clients take, and refuses what they would refuse."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from ca_service.errors import ConfigurationError
from ca_service.pki.keys import spki_der
from ca_service.pki.trusted_root import (
    SigningService,
    TrustedAuthority,
    TrustedLog,
    client_trust_config,
    signing_config,
    trusted_root,
)
from tests.support.pki import FOUNDED, authority, log_key

_URL = "https://ca.example"
_OURS = TrustedAuthority(authority().chain, _URL)
_LOG = TrustedLog(f"{_URL}/ctlog/2026", log_key().public_key(), FOUNDED)
_REKOR = TrustedLog("https://rekor.example", ec.generate_private_key(ec.SECP256R1()).public_key(), FOUNDED)


def _service(url: str = _URL, version: int = 1) -> SigningService:
    return SigningService(url, version, "example", FOUNDED)


def test_the_authority_is_trusted_from_its_first_day_with_its_whole_chain() -> None:
    root: Any = trusted_root([_OURS], [_LOG])
    assert root["mediaType"] == "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
    (found,) = root["certificateAuthorities"]
    assert found["subject"] == {"organization": "Example", "commonName": "Example issuing ecdsa-p256"}
    assert found["uri"] == _URL
    assert found["validFor"] == {"start": "2026-01-01T00:00:00Z"}
    chain = [base64.b64decode(each["rawBytes"]) for each in found["certChain"]["certificates"]]
    assert chain == [each.public_bytes(Encoding.DER) for each in authority().chain]


def test_the_log_is_named_by_its_key_and_by_when_it_began() -> None:
    root: Any = trusted_root([_OURS], [_LOG], tlogs=[_REKOR])
    (log,) = root["ctlogs"]
    spki = spki_der(log_key().public_key())
    assert log == {
        "baseUrl": f"{_URL}/ctlog/2026",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64.b64encode(spki).decode(),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": "2026-01-01T00:00:00Z"},
        },
        "logId": {"keyId": base64.b64encode(hashlib.sha256(spki).digest()).decode()},
    }
    assert len(root["tlogs"]) == 1


def test_what_was_retired_says_until_when() -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    root: Any = trusted_root(
        [TrustedAuthority(authority().chain, _URL, end)],
        [TrustedLog(_URL, log_key().public_key(), FOUNDED, end)],
    )
    assert root["certificateAuthorities"][0]["validFor"]["end"] == "2027-01-01T00:00:00Z"
    assert root["ctlogs"][0]["publicKey"]["validFor"]["end"] == "2027-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("key", "details"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "PKIX_ECDSA_P384_SHA_384"),
        (rsa.generate_private_key(65537, 2048), "PKIX_RSA_PKCS1V15_2048_SHA256"),
        (ed25519.Ed25519PrivateKey.generate(), "PKIX_ED25519"),
    ],
)
def test_logs_of_others_may_have_other_kinds_of_keys(key: Any, details: str) -> None:
    root: Any = trusted_root([_OURS], [_LOG], tlogs=[TrustedLog(_URL, key.public_key(), FOUNDED)])
    assert root["tlogs"][0]["publicKey"]["keyDetails"] == details


def test_a_log_key_without_a_name_in_this_format_is_refused() -> None:
    odd = TrustedLog("https://odd.example", ed448.Ed448PrivateKey.generate().public_key(), FOUNDED)
    with pytest.raises(ConfigurationError, match=r"https://odd\.example"):
        trusted_root([_OURS], [_LOG], tlogs=[odd])


def test_the_signing_config_offers_version_1_of_the_authority_and_any_one_rekor() -> None:
    config: Any = signing_config(
        _service(), [_service("https://rekor.example", 2)], [_service("https://tsa.example")]
    )
    assert config["caUrls"] == [
        {
            "url": _URL,
            "majorApiVersion": 1,
            "validFor": {"start": "2026-01-01T00:00:00Z"},
            "operator": "example",
        }
    ]
    assert config["rekorTlogUrls"][0]["majorApiVersion"] == 2
    assert config["rekorTlogConfig"] == config["tsaConfig"] == {"selector": "ANY"}


def test_a_timestamp_authority_alone_is_enough_to_sign_with() -> None:
    config: Any = signing_config(_service(), [], [_service("https://tsa.example")])
    assert config["rekorTlogUrls"] == []
    assert "rekorTlogConfig" not in config
    assert config["tsaConfig"] == {"selector": "ANY"}


def test_a_log_with_a_name_has_its_id_from_there_when_its_key_is_of_signed_notes() -> None:
    """As the public Rekor 2 of 2025 has it in Sigstore's trusted_root.json."""
    published = "MCowBQYDK2VwAyEAt8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244="
    key = load_der_public_key(base64.b64decode(published))
    elliptic = _REKOR.public_key
    name = "log2025-1.rekor.sigstore.dev"
    logs = [
        TrustedLog(f"https://{name}", key, FOUNDED, origin=name),
        TrustedLog(f"https://{name}", elliptic, FOUNDED, origin=name),
        TrustedLog(f"https://{name}", key, FOUNDED),
    ]
    root: Any = trusted_root([_OURS], [_LOG], tlogs=logs)
    ids = [log["logId"]["keyId"] for log in root["tlogs"]]
    assert ids[0] == "zxGZFVvd0FEmjR8WrFwMdcAJ9vtaY/QXf44Y1wUeP6A="
    for found, spki in zip(ids[1:], (spki_der(elliptic), base64.b64decode(published)), strict=True):
        assert found == base64.b64encode(hashlib.sha256(spki).digest()).decode()


def test_material_that_clients_would_refuse_is_not_made() -> None:
    with pytest.raises(ConfigurationError, match="--rekor"):
        signing_config(_service(), [])
    with pytest.raises(ConfigurationError, match="version 2 was given"):
        signing_config(_service(version=2), [_service()])
    with pytest.raises(ConfigurationError, match="--rekor"):
        client_trust_config(trusted_root([_OURS], [_LOG]), signing_config(_service(), [_service()]))
