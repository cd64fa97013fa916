"""Database URLs as they may be shown and written down."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ca_service.errors import ConfigurationError

_SECRETS = ("password", "sslpassword")


def without_secrets(url: str) -> str:
    """The same URL without passwords; raises ConfigurationError when it is none."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "the database is not named by a URL such as postgresql+psycopg://ca@db.example.com/ca"
        ) from None
    if parsed.password is None and not set(_SECRETS) & set(parsed.query):
        return url
    # Not `set`, which takes None for "as it is".
    bare = parsed.difference_update_query(_SECRETS)._replace(password=None)
    return bare.render_as_string(hide_password=False)


def file_name(url: str) -> str:
    """The file that a URL of SQLite names, as it is written there."""
    return make_url(url).database or ""
