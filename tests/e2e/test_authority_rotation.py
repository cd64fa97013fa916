"""The next issuing key takes over while certificates are issued; who fetched it before notices nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding
from sigstore.errors import VerificationError
from sigstore.verify import Verifier, policy

from ca_service.pki.keys import key_id
from tests.e2e.test_log_rotation import EMAIL, Load, export, signed
from tests.support.processes import RunningService, dev_service, running, wait_until
from tests.support.rekor import LocalRekor
from tests.support.signing import Issued
from tests.support.verifier import ask_ocsp, ca_issuers_url, fetch_crl, ocsp_url, openssl

EACH_SIDE = 20


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningService]:
    with running(dev_service(tmp_path / "ca")) as started:
        yield started


def issued_by(load: Load, key: str) -> list[Issued]:
    return [each for each in list(load.issued) if key_id(each.issuing.public_key()) == key]


def judged(own: RunningService, session: requests.Session, issued: Issued, folder: Path) -> tuple[str, str]:
    """What openssl says of a certificate by OCSP and by the lists that it and its issuer name."""
    issued.write(folder)
    assert session.get(ca_issuers_url(issued.leaf), timeout=10).content == issued.issuing.public_bytes(
        Encoding.DER
    )
    for name, certificate in (("shard", issued.leaf), ("root", issued.issuing)):
        (folder / f"{name}.crl").write_bytes(fetch_crl(session, certificate))
    by_lists = openssl(
        *("verify", "-x509_strict", "-extended_crl", "-crl_check_all", "-CAfile", "root.pem"),
        *("-untrusted", "issuing.pem", "-CRLfile", "shard.crl", "-CRLfile", "root.crl", "leaf.pem"),
        folder=folder,
        code=None,
    )
    verdict = "good" if "leaf.pem: OK" in by_lists else "revoked" if "certificate revoked" in by_lists else ""
    assert verdict, by_lists
    return ask_ocsp(folder, ocsp_url(issued.leaf)).status, verdict


def test_the_next_authority_takes_over_under_load_and_the_first_keeps_its_status(
    own: RunningService, rekor: LocalRekor, session: requests.Session, tmp_path: Path
) -> None:
    ignorant = export(own, rekor, tmp_path / "ignorant")
    bundle_before = signed(own, ignorant)
    load = Load(own)
    try:
        wait_until(lambda: len(load.issued) >= EACH_SIDE, 120, "certificates of the first key")
        first = key_id(load.issued[0].issuing.public_key())
        prepared = json.loads(
            own.admin(
                "rotate", "authority", "--root-key", own.directory / "offline/root.key", "--now", "--json"
            )
        )
        second = prepared["authority_key"]
        address = f"{own.url}/ca/{second}.crt"
        wait_until(
            lambda: {session.get(address, timeout=10).status_code for _ in range(8)} == {200},
            60,
            "every worker knows the next key, without a restart",
        )
        informed = export(own, rekor, tmp_path / "informed")
        wait_until(lambda: len(issued_by(load, second)) >= EACH_SIDE, 120, "certificates of the next key")
    finally:
        load.stop()
    assert not load.failed
    assert not load.refused, [reply.text for reply in load.refused]
    assert len(issued_by(load, first)) + len(issued_by(load, second)) == len(load.issued)
    old, new = issued_by(load, first)[-1], issued_by(load, second)[0]
    assert new.issuing.subject != old.issuing.subject
    assert new.root == old.root
    assert new.leaf.not_valid_before_utc >= new.issuing.not_valid_before_utc

    bundle_after = signed(own, informed)
    who = policy.Identity(identity=EMAIL, issuer=f"{own.url}/dev-idp")
    for bundle in (bundle_before, bundle_after):
        Verifier(trusted_root=informed.trusted_root).verify_artifact(b"an artifact", bundle, who)
    Verifier(trusted_root=ignorant.trusted_root).verify_artifact(b"an artifact", bundle_before, who)
    with pytest.raises(VerificationError):
        Verifier(trusted_root=ignorant.trusted_root).verify_artifact(b"an artifact", bundle_after, who)

    for name, issued in (("old", old), ("new", new)):
        folder = tmp_path / name
        assert judged(own, session, issued, folder) == ("good", "good")
        own.admin("revoke", "certificate", issued.serial)
        assert judged(own, session, issued, folder) == ("revoked", "revoked")
    assert "prepare-authority" in own.admin("audit", "--json")
