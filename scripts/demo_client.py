"""The signer and the auditor of scripts/demo: what stock sigstore-python does, and what a log monitor does.

demo_client.py sign  TRUST_DIR TOKEN_FILE ARTIFACT OUT_DIR
demo_client.py prove TRUST_DIR OUT_DIR
"""

import base64
import json
import struct
import sys
import urllib.request
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def sign(trust: Path, token_file: Path, artifact: Path, out: Path) -> None:
    """Sign a file as sigstore-python does: throwaway key, certificate from the service, SCT checked."""
    from requests import HTTPError
    from sigstore._internal.fulcio import FulcioClient
    from sigstore._internal.fulcio.client import FulcioClientError
    from sigstore._internal.sct import verify_sct
    from sigstore._internal.trust import KeyringPurpose
    from sigstore.models import TrustedRoot
    from sigstore.oidc import IdentityToken

    trusted_root = TrustedRoot.from_file(str(trust / "trusted_root.json"))
    (authority,) = json.loads((trust / "trusted_root.json").read_text())["certificateAuthorities"]
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    token = IdentityToken(token_file.read_text().strip())
    try:
        answer = FulcioClient(authority["uri"]).signing_cert.post(request, token)
    except FulcioClientError as refused:
        if not isinstance(refused.__cause__, HTTPError):
            raise
        raise SystemExit(f"refused: {refused.__cause__.response.json()['message']}") from None
    certificate = answer.cert
    verify_sct(certificate, answer.chain, trusted_root.ct_keyring(KeyringPurpose.SIGN))

    out.mkdir(exist_ok=True)
    (out / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (out / "signature.bin").write_bytes(key.sign(artifact.read_bytes(), ec.ECDSA(hashes.SHA256())))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    seconds = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).seconds
    print(f"certificate for  {', '.join(str(name.value) for name in names)}")
    print(f"serial           {certificate.serial_number:040x}")
    print(f"valid for        {seconds // 60} minutes; the private key is forgotten now")
    print("SCT              signed by the log, checked by sigstore-python's own code")


def prove(trust: Path, out: Path) -> None:
    """Check that the certificate is in the log: signed tree head, entry, inclusion proof."""
    from ca_service.merkle.tree import leaf_hash, verify_inclusion

    certificate = x509.load_pem_x509_certificate((out / "certificate.pem").read_bytes())
    (sct,) = certificate.extensions.get_extension_for_class(
        x509.PrecertificateSignedCertificateTimestamps
    ).value
    index = int.from_bytes(sct.extension_bytes[3:])
    (log,) = json.loads((trust / "trusted_root.json").read_text())["ctlogs"]

    def ask(call: str) -> Any:
        with urllib.request.urlopen(f"{log['baseUrl']}/ct/v1/{call}", timeout=10) as reply:  # noqa: S310 - http
            return json.load(reply)

    head = ask("get-sth")
    size, root = head["tree_size"], base64.b64decode(head["sha256_root_hash"])
    key = serialization.load_pem_public_key((trust / "ctlog.pub").read_bytes())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SystemExit("the log's key is not ECDSA")
    signed = struct.pack(">BBQQ", 0, 1, head["timestamp"], size) + root
    key.verify(base64.b64decode(head["tree_head_signature"])[4:], signed, ec.ECDSA(hashes.SHA256()))
    print(f"tree head        {size} entries, root {root.hex()[:16]}…, signature good")

    found = ask(f"get-entry-and-proof?leaf_index={index}&tree_size={size}")
    leaf = base64.b64decode(found["leaf_input"])
    if certificate.tbs_precertificate_bytes not in leaf:
        raise SystemExit("the log's entry is not this certificate")
    path = [base64.b64decode(node) for node in found["audit_path"]]
    verify_inclusion(leaf_hash(leaf), index, size, path, root)
    print(f"entry            number {index} is this certificate")
    print(f"inclusion proof  {len(path)} hashes lead from the entry to the signed root: good")


def crl(trust: Path, out: Path) -> None:
    """Fetch the CRL that the certificate names, check its signature, and look the certificate up."""
    certificate = x509.load_pem_x509_certificate((out / "certificate.pem").read_bytes())
    issuing, _ = x509.load_pem_x509_certificates((trust / "fulcio.pem").read_bytes())
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    url = (point.full_name or [])[0].value
    with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - http, as CRLs are
        revoked = x509.load_der_x509_crl(reply.read())
    key = issuing.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not revoked.is_signature_valid(key):
        raise SystemExit("the list is not signed by the issuing certificate")
    entry = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is None:
        raise SystemExit("the certificate is not on its list")
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    print(f"list             {url}, signature good")
    print(
        f"entry            this certificate, since {entry.revocation_date_utc:%Y-%m-%dT%H:%M:%SZ}, {reason}"
    )


if __name__ == "__main__":
    role, *paths = sys.argv[1:]
    roles: dict[str, Any] = {"sign": sign, "prove": prove, "crl": crl}
    roles[role](*map(Path, paths))
