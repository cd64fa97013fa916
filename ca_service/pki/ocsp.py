"""OCSP as the rest of the service uses it: requests in, responses out (RFC 6960, RFC 9654)."""

from ca_service.pki.ocsp_delegate import create_delegate
from ca_service.pki.ocsp_request import (
    MAX_CERT_IDS,
    MAX_REQUEST_OCTETS,
    CertId,
    OcspMalformed,
    OcspRequest,
    parse_request,
)
from ca_service.pki.ocsp_response import (
    CertStatus,
    DelegatedSigner,
    ErrorStatus,
    Signer,
    SingleAnswer,
    build_response,
    error_response,
)

__all__ = [
    "MAX_CERT_IDS",
    "MAX_REQUEST_OCTETS",
    "CertId",
    "CertStatus",
    "DelegatedSigner",
    "ErrorStatus",
    "OcspMalformed",
    "OcspRequest",
    "Signer",
    "SingleAnswer",
    "build_response",
    "create_delegate",
    "error_response",
    "parse_request",
]
