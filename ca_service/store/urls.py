"""Database URLs as they may be shown and written down."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ca_service.errors import ConfigurationError

_SECRETS = ("password", "sslpassword")


def parsed_url(url: str) -> URL:
    """Read a URL; raises ConfigurationError, which shows nothing of it, when it is none.

    What follows an "@" in a password that is not escaped stands where host and port are looked for; the
    parser's own words would show it.
    """
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "[database] url: expected a URL such as sqlite:///state/ca.db or"
            " postgresql+psycopg://ca@db.example.com:5432/ca, not what came (not shown, since it may hold a"
            " password); the port is a number, and @ : / % in a password are written %40 %3A %2F %25"
        ) from None


def without_secrets(url: str) -> str:
    """The same URL without passwords; raises ConfigurationError when it is none."""
    parsed = parsed_url(url)
    if parsed.password is None and not set(_SECRETS) & set(parsed.query):
        return url
    # Not `set`, which takes None for "as it is".
    bare = parsed.difference_update_query(_SECRETS)._replace(password=None)
    return bare.render_as_string(hide_password=False)


def file_name(url: str) -> str:
    """The file that a URL of SQLite names, as it is written there."""
    return parsed_url(url).database or ""
