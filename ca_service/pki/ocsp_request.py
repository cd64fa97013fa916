"""OCSP requests, read so that no bytes can surprise (RFC 6960 §4.1, RFC 9654).

`cryptography` reads one CertID only, and its lazy properties raise for unknown hashes and doubled nonces.
"""

from dataclasses import dataclass

from ca_service.pki import der

MAX_REQUEST_OCTETS = 64 * 1024
MAX_CERT_IDS = 32

NONCE = "1.3.6.1.5.5.7.48.1.2"
_ACCEPTABLE_RESPONSES = "1.3.6.1.5.5.7.48.1.4"  # ours is the basic response, which every client must take
_KNOWN_EXTENSIONS = frozenset({NONCE, _ACCEPTABLE_RESPONSES})
_NONCE_OCTETS = range(1, 129)  # RFC 9654 §2.1
_MAX_SERIAL_BITS = 160

_HASH_NAMES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "1.2.840.113549.2.5": "md5",
}

_CONTEXT_0, _CONTEXT_1, _CONTEXT_2 = 0xA0, 0xA1, 0xA2


class OcspMalformed(Exception):
    """The bytes are not an OCSP request that can be answered; the sentence says why."""


@dataclass(frozen=True, slots=True)
class CertId:
    """A certificate's name in OCSP: `der` as it was sent; `hash_name` as in hashlib, or a dotted OID."""

    der: bytes
    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """What was asked, and the nonce to repeat (1 to 128 octets) when there was one."""

    cert_ids: tuple[CertId, ...]
    nonce: bytes | None


def parse_request(request: bytes) -> OcspRequest:
    """Read an OCSPRequest (RFC 6960 §4.1); a signature on it is ignored.

    Raises OcspMalformed, and nothing else whatever the bytes: broken DER, over 64 KiB, no CertID or more than
    32, a nonce of 0 or over 128 octets or twice, a critical extension that is not known here.
    """
    if len(request) > MAX_REQUEST_OCTETS:
        raise OcspMalformed(f"the request has {len(request)} bytes; at most {MAX_REQUEST_OCTETS} are read")
    try:
        top = _Members(der.only(request, der.SEQUENCE))
        tbs = _Members(top.take(der.SEQUENCE))
        top.take_optional(_CONTEXT_0)  # optionalSignature
        top.end()
        return _tbs_request(tbs)
    except der.DerError as error:
        raise OcspMalformed(f"the request is not the DER of an OCSPRequest: {error}") from None


class _Members:
    """The members of a SEQUENCE, taken one by one in their order."""

    __slots__ = ("_left",)

    def __init__(self, content: bytes) -> None:
        self._left = list(der.elements(content))
        self._left.reverse()

    def take(self, tag: int) -> bytes:
        """The content of the next member, which must have this tag."""
        content = self.take_optional(tag)
        if content is None:
            raise der.DerError(f"a member with tag 0x{tag:02x} is missing")
        return content

    def take_optional(self, tag: int) -> bytes | None:
        """The content of the next member if it has this tag."""
        return self._left.pop().content if self._left and self._left[-1].tag == tag else None

    def end(self) -> None:
        """Refuse members that are left."""
        if self._left:
            raise der.DerError(f"a member with tag 0x{self._left[-1].tag:02x} is unexpected")


def _tbs_request(tbs: _Members) -> OcspRequest:
    version = tbs.take_optional(_CONTEXT_0)
    if version not in (None, b"\x02\x01\x00"):
        raise OcspMalformed("the request is not of version 1")
    tbs.take_optional(_CONTEXT_1)  # requestorName
    entries = list(der.elements(tbs.take(der.SEQUENCE)))
    extensions = tbs.take_optional(_CONTEXT_2)
    tbs.end()
    if not 1 <= len(entries) <= MAX_CERT_IDS:
        raise OcspMalformed(f"the request names {len(entries)} certificates; expected 1 to {MAX_CERT_IDS}")
    cert_ids = tuple(_request(entry) for entry in entries)
    known = _extensions(extensions, _KNOWN_EXTENSIONS)
    return OcspRequest(cert_ids, _nonce(known[NONCE]) if NONCE in known else None)


def _request(entry: der.Element) -> CertId:
    members = _Members(der.only(entry.der, der.SEQUENCE))
    content = members.take(der.SEQUENCE)
    _extensions(members.take_optional(_CONTEXT_0), frozenset())
    members.end()
    parts = _Members(content)
    algorithm = _Members(parts.take(der.SEQUENCE))
    dotted = der.dotted(algorithm.take(der.OID))
    if dotted in _HASH_NAMES:
        # It is sent back as it came, so it must be what the algorithm has: NULL, or nothing (RFC 5754 §2).
        if algorithm.take_optional(0x05):
            raise der.DerError("a NULL is not empty")
        algorithm.end()
    name_hash, key_hash = parts.take(der.OCTET_STRING), parts.take(der.OCTET_STRING)
    serial = der.number(parts.take(der.INTEGER))
    parts.end()
    if serial.bit_length() > _MAX_SERIAL_BITS:
        raise OcspMalformed("a serial has more than 20 octets (RFC 5280 §4.1.2.2)")
    return CertId(der.sequence(content), _HASH_NAMES.get(dotted, dotted), name_hash, key_hash, serial)


def _extensions(wrapped: bytes | None, known: frozenset[str]) -> dict[str, bytes]:
    """The extensions by OID, each once; a critical one must be known."""
    if wrapped is None:
        return {}
    found: dict[str, bytes] = {}
    for element in der.elements(der.only(wrapped, der.SEQUENCE)):
        members = _Members(der.only(element.der, der.SEQUENCE))
        oid = der.dotted(members.take(der.OID))
        critical = members.take_optional(0x01)
        value = members.take(der.OCTET_STRING)
        members.end()
        if critical not in (None, b"\xff", b"\x00"):
            raise der.DerError("a BOOLEAN is neither TRUE nor FALSE")
        if oid in found:
            raise OcspMalformed(f"the extension {oid} stands twice")
        if critical == b"\xff" and oid not in known:
            raise OcspMalformed(f"the extension {oid} is critical and not known here")
        found[oid] = value
    return found


def _nonce(value: bytes) -> bytes:
    nonce = der.only(value, der.OCTET_STRING)
    if len(nonce) not in _NONCE_OCTETS:
        raise OcspMalformed(f"the nonce has {len(nonce)} octets; expected 1 to 128 (RFC 9654 §2.1)")
    return nonce
