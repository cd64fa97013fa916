"""The forms of single values: each function returns what it was given, or raises with what was expected.

The messages complete the sentence "expected …"; they never repeat the value, which may hold a password.
"""

import ipaddress
import re
from urllib.parse import urlsplit

_SHARD = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_LONGEST_TITLE = 64
"""Of an organization in a certificate's name (RFC 5280 appendix A, ub-organization-name)."""
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(r"[!-*,-~]{1,255}")


def _parts(url: str) -> tuple[str, str, str]:
    """Split a URL into scheme, path and host after the checks that every URL of ours must pass."""
    split = urlsplit(url)
    try:
        split.port  # noqa: B018 - reading it is how urllib checks the port's range
        host = f"[{split.hostname}]" if ":" in (split.hostname or "") else (split.hostname or "")
    except ValueError:
        host = ""
    if split.scheme not in ("http", "https") or not _HOST.fullmatch(host) or split.username is not None:
        raise ValueError("an http or https URL with a host name and no user name")
    if split.query or split.fragment or url != url.strip():
        raise ValueError("a URL without query, fragment or spaces")
    if url.endswith("/"):
        raise ValueError("a URL without a slash at its end")
    return split.scheme, split.path, host


def origin_url(url: str) -> str:
    """Check a URL that is an origin alone."""
    if _parts(url)[1]:
        raise ValueError("a URL without a path: Fulcio's clients call /api/v2 at the root of the origin")
    return url


def plain_url(url: str) -> str:
    """Check a plain http URL without a closing slash."""
    if _parts(url)[0] != "http":
        raise ValueError(
            "a plain http URL: a client that checks a certificate cannot first check the certificate of"
            " the server that tells it how"
        )
    return url


def address(bind: str) -> str:
    """Check HOST:PORT."""
    host, _, port = bind.rpartition(":")
    if not _HOST.fullmatch(host) or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("HOST:PORT, such as 127.0.0.1:5555 or [::1]:5555")
    return bind


def optional_address(bind: str) -> str:
    """Check HOST:PORT or nothing."""
    return address(bind) if bind else bind


def shard(name: str) -> str:
    """Check the name of a log."""
    if not _SHARD.fullmatch(name):
        raise ValueError("1 to 32 of a-z, 0-9 and inner hyphens, since it is part of URLs")
    return name


def log_origin(origin: str) -> str:
    """Check a checkpoint origin: no scheme, no closing slash (c2sp.org/static-ct-api)."""
    if not _ORIGIN.fullmatch(origin) or "://" in origin or origin.endswith("/"):
        raise ValueError("the log's URL without scheme, closing slash, spaces or plus signs")
    return origin


def networks(ranges: tuple[str, ...]) -> tuple[str, ...]:
    """Check address ranges."""
    for network in ranges:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError("address ranges such as 127.0.0.0/8 or fd00::/8") from None
    return ranges


def admin_audience(audience: str) -> str:
    """Check that an audience is not the one that every Sigstore client asks its identity provider for."""
    if audience == "sigstore":
        raise ValueError("another audience than sigstore, which tokens for certificates have")
    return audience


def login_scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Check the scopes of a login (OpenID Connect Core §3.1.2.1)."""
    if "openid" not in scopes or not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in scopes):
        raise ValueError("a list of scopes with openid among them")
    return scopes


def title(name: str) -> str:
    """Check a name that goes into certificates."""
    if not name.strip() or len(name) > _LONGEST_TITLE or any(not letter.isprintable() for letter in name):
        raise ValueError(f"a name of 1 to {_LONGEST_TITLE} printable characters")
    return name


def is_loopback(bind: str) -> bool:
    """Say whether an address HOST:PORT can be reached from this machine only."""
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def database_url(url: str) -> str:
    """Check that a URL names one of the two engines; the rest is SQLAlchemy's to read."""
    if re.match(r"postgres(ql)?://", url):
        raise ValueError("postgresql+psycopg:// where it begins with postgres:// or postgresql://")
    if not re.match(r"sqlite:///.|postgresql\+psycopg://.", url):
        raise ValueError("sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
    return url


def redis_url(url: str) -> str:
    """Check that a URL is one of Redis, or nothing."""
    if url and not re.match(r"(redis|rediss|unix)://.", url):
        raise ValueError("redis://HOST:PORT/0 or rediss://HOST:PORT/0, or nothing")
    try:
        urlsplit(url).port  # noqa: B018 - reading it is how urllib checks the port's range
    except ValueError:
        raise ValueError(
            "redis://USER:PASSWORD@HOST:PORT/0 with a number for its port, and @ : / % in the password"
            " written %40 %3A %2F %25"
        ) from None
    return url


def path_or_none(value: object) -> object:
    """Take an empty text as no path, since TOML has no null."""
    return None if value == "" else value
