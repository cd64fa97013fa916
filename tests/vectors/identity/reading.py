"""Reads the bytes of a certificate's extensions as they stand there, by a library that did not write them."""

from asn1crypto import x509 as asn1

ARC = "1.3.6.1.4.1.57264.1."
SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"


def raw_extensions(certificate: bytes) -> dict[str, bytes]:
    """The values of a DER certificate's extensions by OID, without their OCTET STRING."""
    tbs = asn1.Certificate.load(certificate)["tbs_certificate"]
    return {one["extn_id"].dotted: one["extn_value"].contents for one in tbs["extensions"]}


def subject_and_fulcio(certificate: bytes) -> tuple[str, dict[str, str]]:
    """The subject alternative name, and Fulcio's extensions by OID, in hex of their DER."""
    found = raw_extensions(certificate)
    fulcio = {oid: value.hex() for oid, value in found.items() if oid.startswith(ARC)}
    return found[SUBJECT_ALTERNATIVE_NAME].hex(), fulcio
