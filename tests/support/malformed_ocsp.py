"""OCSP requests that are wrong in one way each, and what is to be answered: one list for HTTP and fuzzing."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509

from ca_service.pki import der
from ca_service.pki.keys import spki_der, subject_public_key

SHA1, SHA256, MD5 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "1.2.840.113549.2.5"
NONCE = "1.3.6.1.5.5.7.48.1.2"

MALFORMED, UNAUTHORIZED, REFUSED, ANSWERED = "malformedRequest", "unauthorized", "HTTP 4xx", "answered"


@dataclass(frozen=True)
class Asked:
    """The certificate that is asked about."""

    leaf: x509.Certificate
    issuing: x509.Certificate

    def cert_id(
        self,
        *,
        digest: str = "sha256",
        oid: str = SHA256,
        parameters: bytes = b"",
        serial: bytes | None = None,
        name_hash: bytes | None = None,
        key_hash: bytes | None = None,
    ) -> bytes:
        """A CertID, as it should be but for what is given."""
        bits = subject_public_key(spki_der(self.issuing.public_key()))
        return der.sequence(
            der.sequence(der.oid(oid), parameters),
            der.octet_string(
                hashlib.new(digest, self.issuing.subject.public_bytes()).digest()
                if name_hash is None
                else name_hash
            ),
            der.octet_string(hashlib.new(digest, bits).digest() if key_hash is None else key_hash),
            der.integer(self.leaf.serial_number) if serial is None else serial,
        )

    def request(
        self,
        *cert_ids: bytes,
        before: bytes = b"",
        extensions: bytes | None = None,
        single: bytes = b"",
        after: bytes = b"",
    ) -> bytes:
        """An OCSPRequest for these CertIDs, or for the good one."""
        entries = [der.sequence(each, single) for each in cert_ids or (self.cert_id(),)]
        wrapped = b"" if extensions is None else der.explicit(2, der.sequence(extensions))
        return der.sequence(der.sequence(before, der.sequence(*entries), wrapped), after)


def _nonce(content: bytes, *, critical: bool = False) -> bytes:
    return der.extension(NONCE, der.octet_string(content), critical=critical)


Make = Callable[[Asked], bytes]

BODIES: Mapping[str, tuple[Make, str]] = {
    # not DER, or not whole
    "nothing": (lambda _: b"", MALFORMED),
    "one octet": (lambda _: b"\x30", MALFORMED),
    "an empty sequence": (lambda _: b"\x30\x00", MALFORMED),
    "an empty tbsRequest": (lambda _: b"\x30\x02\x30\x00", MALFORMED),
    "NULL": (lambda _: b"\x05\x00", MALFORMED),
    "text": (lambda _: b"GET / HTTP/1.1\r\n\r\n", MALFORMED),
    "JSON": (lambda _: b'{"serial": 1}', MALFORMED),
    "PEM": (lambda _: b"-----BEGIN OCSP REQUEST-----\n", MALFORMED),
    "zeros": (lambda _: b"\0" * 200, MALFORMED),
    "ones": (lambda _: b"\xff" * 200, MALFORMED),
    "cut after the first header": (lambda asked: asked.request()[:2], MALFORMED),
    "cut in the middle": (lambda asked: asked.request()[:60], MALFORMED),
    "cut by one octet": (lambda asked: asked.request()[:-1], MALFORMED),
    "one octet too many": (lambda asked: asked.request() + b"\0", MALFORMED),
    "two requests": (lambda asked: asked.request() * 2, MALFORMED),
    "indefinite length": (lambda asked: b"\x30\x80" + asked.request()[2:] + b"\0\0", MALFORMED),
    "a length with leading zeros": (
        lambda asked: b"\x30\x83\0\0" + asked.request()[1:],
        MALFORMED,
    ),
    "a length of four gigabytes": (lambda _: b"\x30\x84\xff\xff\xff\xff\x30\x00", MALFORMED),
    "a length of 126 octets": (lambda _: b"\x30\xfe" + b"\xff" * 130, MALFORMED),
    "a tag of many octets": (lambda _: b"\x3f\x81\x81\x01\x00", MALFORMED),
    "a set instead of a sequence": (lambda asked: b"\x31" + asked.request()[1:], MALFORMED),
    "nested a thousand deep": (lambda _: _nested(1000), MALFORMED),
    # too large
    "64,000 octets of nested lengths": (lambda _: _nested(16_000), MALFORMED),
    "a body beyond the limit": (lambda _: b"\x30" * 70_000, REFUSED),
    "a request with a long extension": (
        lambda asked: asked.request(extensions=der.extension("1.2.3.4", b"\0" * 66_000)),
        REFUSED,
    ),
    "33 certificates": (lambda asked: asked.request(*[asked.cert_id()] * 33), MALFORMED),
    "500 certificates": (lambda asked: asked.request(*[asked.cert_id()] * 500), MALFORMED),
    # what is asked about
    "zero requests": (
        lambda _: der.sequence(der.sequence(der.sequence())),
        MALFORMED,
    ),
    "a request without CertID": (
        lambda _: der.sequence(der.sequence(der.sequence(der.sequence()))),
        MALFORMED,
    ),
    "an empty CertID": (lambda asked: asked.request(der.sequence()), MALFORMED),
    "a CertID with a member too many": (
        lambda asked: asked.request(asked.cert_id(serial=der.integer(1) + der.NULL)),
        MALFORMED,
    ),
    "a CertID without a serial": (lambda asked: asked.request(asked.cert_id(serial=b"")), MALFORMED),
    "a serial that is no number": (
        lambda asked: asked.request(asked.cert_id(serial=der.octet_string(b"1"))),
        MALFORMED,
    ),
    "an empty serial": (lambda asked: asked.request(asked.cert_id(serial=b"\x02\x00")), MALFORMED),
    "a serial with leading zeros": (
        lambda asked: asked.request(asked.cert_id(serial=b"\x02\x03\0\0\x01")),
        MALFORMED,
    ),
    "a serial of 21 octets": (
        lambda asked: asked.request(asked.cert_id(serial=der.integer(1 << 160))),
        MALFORMED,
    ),
    "a serial of a thousand octets": (
        lambda asked: asked.request(asked.cert_id(serial=der.integer(1 << 8000))),
        MALFORMED,
    ),
    "a negative serial": (lambda asked: asked.request(asked.cert_id(serial=b"\x02\x01\x80")), ANSWERED),
    "serial zero": (lambda asked: asked.request(asked.cert_id(serial=der.integer(0))), ANSWERED),
    "a serial never issued": (lambda asked: asked.request(asked.cert_id(serial=der.integer(5))), ANSWERED),
    # hashes
    "MD5": (lambda asked: asked.request(asked.cert_id(digest="md5", oid=MD5)), UNAUTHORIZED),
    "an unknown hash": (lambda asked: asked.request(asked.cert_id(oid="1.2.3.4.5")), UNAUTHORIZED),
    "a hash with an empty name": (
        lambda asked: asked.request(
            der.sequence(
                der.sequence(b"\x06\x00"), der.octet_string(b""), der.octet_string(b""), der.integer(1)
            )
        ),
        MALFORMED,
    ),
    "a hash whose name is cut": (
        lambda asked: asked.request(
            der.sequence(
                der.sequence(b"\x06\x02\x2b\x80"),
                der.octet_string(b""),
                der.octet_string(b""),
                der.integer(1),
            )
        ),
        MALFORMED,
    ),
    "a hash with parameters that are cut": (
        lambda asked: asked.request(asked.cert_id(parameters=b"\x05\x01")),
        MALFORMED,
    ),
    "a hash with text for parameters": (
        lambda asked: asked.request(asked.cert_id(parameters=der.utf8_string("sha256"))),
        MALFORMED,
    ),
    "a hash with two parameters": (
        lambda asked: asked.request(asked.cert_id(parameters=der.NULL * 2)),
        MALFORMED,
    ),
    "a hash with NULL for parameters": (
        lambda asked: asked.request(asked.cert_id(parameters=der.NULL)),
        ANSWERED,
    ),
    "no hash": (
        lambda asked: asked.request(
            der.sequence(der.sequence(), der.octet_string(b""), der.octet_string(b""), der.integer(1))
        ),
        MALFORMED,
    ),
    "SHA-1 octets said to be SHA-256": (
        lambda asked: asked.request(asked.cert_id(digest="sha1")),
        UNAUTHORIZED,
    ),
    "SHA-256 octets said to be SHA-1": (lambda asked: asked.request(asked.cert_id(oid=SHA1)), UNAUTHORIZED),
    "another authority's name": (
        lambda asked: asked.request(asked.cert_id(name_hash=b"n" * 32)),
        UNAUTHORIZED,
    ),
    "another authority's key": (lambda asked: asked.request(asked.cert_id(key_hash=b"k" * 32)), UNAUTHORIZED),
    "empty hashes": (
        lambda asked: asked.request(asked.cert_id(name_hash=b"", key_hash=b"")),
        UNAUTHORIZED,
    ),
    "one of ours and a stranger's": (
        lambda asked: asked.request(asked.cert_id(), asked.cert_id(key_hash=b"k" * 32)),
        UNAUTHORIZED,
    ),
    "hashes of 60 KB": (
        lambda asked: asked.request(asked.cert_id(name_hash=b"n" * 30_000, key_hash=b"k" * 30_000)),
        UNAUTHORIZED,
    ),
    # extensions
    "an empty nonce": (lambda asked: asked.request(extensions=_nonce(b"")), MALFORMED),
    "a nonce of 129 octets": (lambda asked: asked.request(extensions=_nonce(b"n" * 129)), MALFORMED),
    "a nonce of 60 KB": (lambda asked: asked.request(extensions=_nonce(b"n" * 60_000)), MALFORMED),
    "two nonces": (lambda asked: asked.request(extensions=_nonce(b"n" * 16) + _nonce(b"m" * 16)), MALFORMED),
    "the same nonce twice": (lambda asked: asked.request(extensions=_nonce(b"n" * 16) * 2), MALFORMED),
    "a nonce that is no OCTET STRING": (
        lambda asked: asked.request(extensions=der.extension(NONCE, b"nonce")),
        MALFORMED,
    ),
    "a nonce with octets after it": (
        lambda asked: asked.request(extensions=der.extension(NONCE, der.octet_string(b"n") + der.NULL)),
        MALFORMED,
    ),
    "an unknown critical extension": (
        lambda asked: asked.request(extensions=der.extension("1.2.3.4", der.NULL, critical=True)),
        MALFORMED,
    ),
    "an unknown critical extension of one request": (
        lambda asked: asked.request(
            single=der.explicit(0, der.sequence(der.extension("1.2.3.4", der.NULL, critical=True)))
        ),
        MALFORMED,
    ),
    "an extension that is half true": (
        lambda asked: asked.request(
            extensions=der.sequence(der.oid("1.2.3.4"), b"\x01\x01\x42", der.octet_string(b""))
        ),
        MALFORMED,
    ),
    "an extension without a value": (
        lambda asked: asked.request(extensions=der.sequence(der.oid("1.2.3.4"))),
        MALFORMED,
    ),
    "no extension in the list": (lambda asked: asked.request(extensions=b""), ANSWERED),
    # around it
    "version 2": (lambda asked: asked.request(before=der.explicit(0, der.integer(1))), MALFORMED),
    "a version of a hundred octets": (
        lambda asked: asked.request(before=der.explicit(0, der.integer(1 << 800))),
        MALFORMED,
    ),
    "members in the wrong order": (
        lambda asked: asked.request(
            before=der.explicit(1, der.explicit(4, der.EMPTY_SEQUENCE)) + der.explicit(0, der.integer(0))
        ),
        MALFORMED,
    ),
    "something after the tbsRequest": (lambda asked: asked.request(after=der.NULL), MALFORMED),
    "a signature that is none": (lambda asked: asked.request(after=der.explicit(0, b"\0\0")), ANSWERED),
    "an answer instead of a request": (lambda _: bytes.fromhex("30030a0101"), MALFORMED),
}
"""By name: how the request is made, and the answer. ANSWERED is a successful one: odd, but not wrong."""

PATHS: Mapping[str, tuple[str, str]] = {
    "nothing after the slash": ("", REFUSED),
    "a second slash alone": ("/", MALFORMED),
    "many slashes": ("/" * 50, MALFORMED),
    "dots": ("../../etc/passwd", MALFORMED),
    "encoded dots": ("%2E%2E%2F%2E%2E", MALFORMED),
    "encoded twice": ("MEUw%252F%252BMEUw", MALFORMED),
    "a percent sign alone": ("%", MALFORMED),
    "half an escape": ("MEUw%2", MALFORMED),
    "an escape that is no hex": ("MEUw%zz", MALFORMED),
    "an encoded zero octet": ("MEUw%00", MALFORMED),
    "an encoded line end and header": ("MEUw%0d%0aX-Injected:%20yes", MALFORMED),
    "octets that are no UTF-8": ("%ff%fe%fd", MALFORMED),
    "an overlong encoding": ("%c0%af", MALFORMED),
    "Arabic digits": ("%D9%A1%D9%A1%D9%A1%D9%A1", MALFORMED),
    "spaces for plus signs": ("MEUw%20MEUw", MALFORMED),
    "padding in the middle": ("MEU=MEUw", MALFORMED),
    "nothing but padding": ("====", MALFORMED),
    "too much padding": ("MEUw====", MALFORMED),
    "a length no octets have": ("MEUwM", MALFORMED),
    "hex": ("3045304330410201", MALFORMED),
    "a query alone": ("?MEUwQzBBMD8=", REFUSED),
    "a template": ("%7B%7B7*7%7D%7D", MALFORMED),
    "characters of neither alphabet": ("MEUw,MEUw;MEUw", MALFORMED),
    "7,000 letters": ("M" * 7000, MALFORMED),
    "20,000 letters": ("M" * 20_000, REFUSED),
    "7,000 slashes": ("/" * 7000, MALFORMED),
    "2,000 escapes": ("%2F" * 2000, MALFORMED),
    "fewer": ("M", MALFORMED),
}
"""By name: what stands after /ocsp/ in the request line, octet for octet, and the answer."""


def _nested(depth: int) -> bytes:
    """Sequences in sequences."""
    headers = [b""]
    size = 0
    for _ in range(depth):
        headers.append(b"\x30" + der.length(size))
        size += len(headers[-1])
    return b"".join(reversed(headers))
