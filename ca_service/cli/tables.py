"""Tables for people, of words that may be somebody else's."""

import sys
from collections.abc import Iterable, Mapping, Sequence

_LONGEST_LINE = 400


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their titles; None becomes an empty cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        # As Text: an identity is somebody else's words and must not style the table.
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    # Into a pipe, lines are for other programs and stay whole.
    Console(width=None if sys.stdout.isatty() else _LONGEST_LINE, highlight=False).print(table)


def print_certificates(facts: Iterable[Mapping[str, object]]) -> None:
    """Print what facts.certificate_facts says of certificates."""
    print_table(
        ("serial", "identity", "issuer", "not before", "log index", "revoked from"),
        (
            (
                one["serial"],
                one["identity"],
                one["issuer"],
                one["not_before"],
                one["log_index"],
                f"{revocation['revocation_date']} {revocation['reason']}"
                if isinstance(revocation := one["revocation"], Mapping)
                else None,
            )
            for one in facts
        ),
    )


def print_blocks(facts: Iterable[Mapping[str, object]], now: str) -> None:
    """Print what facts.block_facts says of blocks; `now` (RFC 3339) tells which have expired."""
    print_table(
        ("block", "identity", "issuer", "subject", "key", "since", "until", "reason"),
        (
            (
                one["number"],
                one["identity"],
                one["issuer"],
                one["oidc_subject"],
                one["key_sha256"],
                one["created"],
                _end_of(one["expires"], now),
                one["reason"],
            )
            for one in facts
        ),
    )


def _end_of(expires: object, now: str) -> str:
    if expires is None:
        return "unblocked"
    return f"{expires} (expired)" if str(expires) <= now else str(expires)


def printable(text: str) -> str:
    """Text without signs that would move a terminal's cursor or hide others."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
