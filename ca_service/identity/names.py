"""What may stand in a subject alternative name: e-mail addresses, URIs, SPIFFE IDs and host names.

The functions answer or raise ValueError with a sentence that never repeats the value, which may be personal.
"""

import re
from urllib.parse import quote, urlsplit

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SPIFFE_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")

_MAX_ADDRESS = 254
_MAX_LOCAL_PART = 64
_MAX_URI = 2048

# Every character RFC 3986 lets stand in a URI, percent included: what is already encoded stays as it is.
_URI_CHARACTERS = "!#$%&'()*+,/:;=?@[]-._~"


def check_email_address(address: str) -> None:
    """Check that a text is an address an rfc822Name can hold (RFC 5321 §4.1.2 dot-string, RFC 5280 §4.2.1.6).

    Raises ValueError: not ASCII, not exactly one @, too long, or no domain of at least two labels.
    """
    if not address.isascii():
        raise ValueError(
            "it has characters outside ASCII, which an rfc822Name cannot hold; "
            "an internationalised domain is written with xn-- labels"
        )
    if len(address) > _MAX_ADDRESS:
        raise ValueError(f"it is longer than {_MAX_ADDRESS} characters")
    local_part, _at, domain = address.partition("@")
    if not _at or "@" in domain:
        raise ValueError("it does not have exactly one @")
    if len(local_part) > _MAX_LOCAL_PART or not _LOCAL_PART.fullmatch(local_part):
        raise ValueError("the part before the @ is not a plain local part of at most 64 characters")
    if not _DOMAIN.fullmatch(domain):
        raise ValueError("the part after the @ is not a domain name of at least two labels")


def check_domain(domain: str) -> None:
    """Check a domain name of at least two labels, in ASCII (RFC 1035 §2.3.1); raises ValueError."""
    if len(domain) > _MAX_ADDRESS or not _DOMAIN.fullmatch(domain):
        raise ValueError(
            "a domain is written like example.com, with xn-- labels when it is internationalised, and "
            "without @, * or a dot in front"
        )


def is_email_address(text: str) -> bool:
    """Say whether a text would pass for an e-mail address, whatever script it is written in."""
    local_part, at, domain = text.rpartition("@")
    return bool(at and local_part and "." in domain.strip(".")) and not any(c in text for c in "/: \t\r\n")


def uri_name(text: str) -> str:
    """Return the URI as a certificate holds it: the scheme in lower case, as Fulcio writes it, and characters
    that no URI has percent-encoded (RFC 5280 §4.2.1.6).

    Raises ValueError: no scheme, control characters, a stray percent sign, or over 2048 characters.
    """
    if _CONTROL.search(text):
        raise ValueError("it has control characters")
    if not _SCHEME.match(text):
        raise ValueError("it has no scheme such as https:")
    if _STRAY_PERCENT.search(text):
        raise ValueError("it has a percent sign that encodes nothing")
    scheme, colon, rest = text.partition(":")
    encoded = scheme.lower() + colon + quote(rest, safe=_URI_CHARACTERS)
    if len(encoded) > _MAX_URI:
        raise ValueError(f"it is longer than {_MAX_URI} characters")
    return encoded


def origin_of(url: str) -> tuple[str, str]:
    """Return a URL's scheme and host in lower case; raises ValueError: no host, or user information."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # What urllib says repeats the host.
        raise ValueError("it is not a URL") from None
    if "\\" in url or _CONTROL.search(url) or " " in parts.netloc:
        raise ValueError("it has characters no URL has")
    if not parts.hostname:
        raise ValueError("it has no host")
    if "@" in parts.netloc:
        raise ValueError("it has user information before its host")
    return parts.scheme.lower(), parts.hostname.lower()


def check_trust_domain(name: str) -> None:
    """Check a SPIFFE trust domain name (SPIFFE-ID §2.1); raises ValueError."""
    if not _TRUST_DOMAIN.fullmatch(name):
        raise ValueError("a SPIFFE trust domain has 1 to 255 of the characters a-z 0-9 . _ -")


def check_spiffe_id(spiffe_id: str, trust_domain: str) -> None:
    """Check a SPIFFE ID (SPIFFE-ID §2) and that it lies in the trust domain; raises ValueError."""
    if not spiffe_id.startswith("spiffe://"):
        raise ValueError("it does not begin with spiffe://")
    if len(spiffe_id) > _MAX_URI:
        raise ValueError(f"it is longer than {_MAX_URI} characters")
    domain, slash, path = spiffe_id.removeprefix("spiffe://").partition("/")
    check_trust_domain(domain)
    if domain != trust_domain:
        raise ValueError(f"its trust domain is not {trust_domain}")
    for segment in path.split("/") if slash else ():
        if segment in (".", "..") or not _SPIFFE_SEGMENT.fullmatch(segment):
            raise ValueError("its path has an empty, relative or otherwise invalid segment")
