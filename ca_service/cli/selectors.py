"""The options by which certificates are selected, the same for every verb that takes them."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from ca_service.authority.fact_readers import read_key_sha256, read_log_index, read_seconds
from ca_service.authority.status_ports import Selector
from ca_service.vocabulary import parse_serial

_Value = TypeVar("_Value")

_OPTIONS = (
    click.option(
        "--identity", metavar="SAN", help="The name in the certificate; * and ? stand for any text."
    ),
    click.option("--issuer", "oidc_issuer", metavar="URL", help="The identity provider's URL."),
    click.option(
        "--oidc-subject", metavar="SUB", help="The subject by which the identity provider knows it."
    ),
    click.option("--key-sha256", metavar="HEX", help="SHA-256 of the DER public key (SubjectPublicKeyInfo)."),
    click.option("--log-index", metavar="SHARD:N", help="The entry in a log, such as 2026:17."),
    click.option("--serial", metavar="HEX", help="The serial, with or without colons."),
    click.option("--since", metavar="TIME", help="Valid at or after this time (RFC 3339, or a date)."),
    click.option("--until", metavar="TIME", help="Valid at or before this time."),
)


def selector_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selector's options; the command gets them as one `selector`, of which something is set."""

    @wraps(command)
    def with_something(selector: Selector, **given: Any) -> Any:
        if selector == Selector():
            raise click.UsageError(
                "give at least one selector, such as --identity ada@example.com or --since DATE"
            )
        return command(selector=selector, **given)

    return optional_selector(with_something)


def optional_selector(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selector's options; the `selector` that the command gets may be empty."""

    @wraps(command)
    def with_selector(**given: Any) -> Any:
        texts = {name: given.pop(name) for name in _NAMES}
        return command(selector=_selector(texts), **given)

    decorated: Callable[..., Any] = with_selector
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_NAMES = ("identity", "oidc_issuer", "oidc_subject", "key_sha256", "log_index", "serial", "since", "until")


def _selector(texts: dict[str, str | None]) -> Selector:
    return Selector(
        identity=texts["identity"],
        oidc_issuer=texts["oidc_issuer"],
        oidc_subject=texts["oidc_subject"],
        key_sha256=_read(texts, "key_sha256", read_key_sha256),
        log_index=_read(texts, "log_index", read_log_index),
        serial=_read(texts, "serial", parse_serial),
        since=_read(texts, "since", read_seconds),
        until=_read(texts, "until", read_seconds),
    )


def _read(texts: dict[str, str | None], name: str, read: Callable[[str], _Value]) -> _Value | None:
    text = texts[name]
    if text is None:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise click.UsageError(f"--{name.replace('_', '-')}: {error}") from None
