"""Timestamps, chains and trust material, judged by sigstore-python's own code."""

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import CTKeyring, KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.models import ClientTrustConfig, TrustedRoot
from sigstore_models.trustroot import v1 as trustroot

from ca_service.pki.profile import build_certificate
from ca_service.pki.sct import parse_sct_list
from ca_service.pki.trusted_root import (
    SigningService,
    TrustedAuthority,
    TrustedLog,
    client_trust_config,
    signing_config,
    trusted_root,
)
from tests.support.pki import AUTHORITY_KINDS, FOUNDED, authority, issue, log_key, sct_list

_URL = "https://ca.example"
_REKOR = ec.generate_private_key(ec.SECP256R1()).public_key()


def _trusted_root(kind: str = "ecdsa-p256") -> dict[str, Any]:
    return trusted_root(
        [TrustedAuthority(authority(kind).chain, _URL)],
        [TrustedLog(f"{_URL}/ctlog/2026", log_key().public_key(), FOUNDED)],
        tsas=[TrustedAuthority(authority(name="Time").chain, "https://tsa.example")],
        tlogs=[TrustedLog("https://rekor.example", _REKOR, FOUNDED)],
    )


def _keyring(kind: str = "ecdsa-p256") -> CTKeyring:
    parsed = TrustedRoot(trustroot.TrustedRoot.from_json(json.dumps(_trusted_root(kind))))
    return parsed.ct_keyring(KeyringPurpose.VERIFY)


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_it_accepts_our_timestamp_under_authorities_of_every_kind(kind: str) -> None:
    verify_sct(issue(authority(kind)).certificate, list(authority(kind).chain), _keyring(kind))


def test_it_refuses_a_timestamp_with_one_bit_changed_anywhere() -> None:
    issued = issue()
    honest = sct_list(authority(), issued.precertificate)
    assert len(parse_sct_list(honest)) == 1
    for octet in (40, 44, 54, 70, len(honest) - 1):  # timestamp twice, leaf index, signature twice
        changed = bytearray(honest)
        changed[octet] ^= 1
        leaf = x509.load_der_x509_certificate(
            build_certificate(authority(), issued.precertificate, bytes(changed))
        )
        with pytest.raises(VerificationError):
            verify_sct(leaf, list(authority().chain), _keyring())


def test_it_refuses_a_timestamp_of_another_certificate() -> None:
    first, second = issue(), issue()
    swapped = build_certificate(
        authority(), first.precertificate, sct_list(authority(), second.precertificate)
    )
    with pytest.raises(VerificationError):
        verify_sct(x509.load_der_x509_certificate(swapped), list(authority().chain), _keyring())


def test_it_reads_our_trusted_root_and_finds_chain_log_and_authorities_of_time() -> None:
    parsed = TrustedRoot(trustroot.TrustedRoot.from_json(json.dumps(_trusted_root())))
    assert set(parsed.get_fulcio_certs()) == set(authority().chain)
    (time,) = parsed.get_timestamp_authorities()
    assert set(time.certificates(allow_expired=False)) == set(authority(name="Time").chain)
    parsed.rekor_keyring(KeyringPurpose.SIGN)
    parsed.ct_keyring(KeyringPurpose.SIGN)


def test_a_retired_log_still_verifies_and_no_longer_signs() -> None:
    end = FOUNDED + timedelta(days=30)
    root = trusted_root(
        [TrustedAuthority(authority().chain, _URL)],
        [TrustedLog(f"{_URL}/ctlog/2026", log_key().public_key(), FOUNDED, end)],
    )
    parsed = TrustedRoot(trustroot.TrustedRoot.from_json(json.dumps(root)))
    verify_sct(issue().certificate, list(authority().chain), parsed.ct_keyring(KeyringPurpose.VERIFY))
    with pytest.raises(Exception, match="CTFE keys not found"):
        parsed.ct_keyring(KeyringPurpose.SIGN)


def test_it_would_sign_with_our_client_trust_config() -> None:
    def service(url: str, version: int = 1) -> SigningService:
        return SigningService(url, version, "example", FOUNDED)

    config = signing_config(
        service(_URL),
        [service("https://rekor.example", 2)],
        [service("https://tsa.example")],
        [service("https://oidc.example")],
    )
    parsed = ClientTrustConfig.from_json(json.dumps(client_trust_config(_trusted_root(), config)))
    assert parsed.signing_config.get_fulcio().url == _URL
    assert parsed.signing_config.get_oidc_url() == "https://oidc.example"
    assert len(parsed.signing_config.get_tlogs()) == len(parsed.signing_config.get_tsas()) == 1
