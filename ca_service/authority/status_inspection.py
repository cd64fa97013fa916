"""Inspecting what status answers are made of: revocations against issued rows, CRLs against revocations."""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from cryptography import x509

from ca_service.authority.finding import Finding
from ca_service.authority.status_ports import CrlShard
from ca_service.pki.crl import verify_crl
from ca_service.vocabulary import RevocationReason, format_serial

_REASONS = frozenset(reason.number for reason in RevocationReason)


class ListedRow(NamedTuple):
    """What a CRL must say of a revocation."""

    serial: str
    revocation_date: int
    reason: int


class RevocationRow(NamedTuple):
    """A revocation beside the issued row and the CRL shard that it names, of which there may be none.

    `recovered`: it was taken back from a CRL after a rollback, which may have lost the issued row.
    """

    authority_key: str
    serial: str
    crl_shard: str
    revocation_date: int
    revoked_at: int
    reason: int
    not_before: int | None
    issued_shard: str | None
    shard_url: str | None
    recovered: bool = False


def inspect_revocation(row: RevocationRow) -> Iterator[Finding]:
    """Check a revocation against what it takes back."""
    where = f"revocation of {row.serial}"
    if row.not_before is None and not row.recovered:
        yield Finding(
            "revocation-without-issued",
            where,
            f"an issued row of the authority key {row.authority_key}",
            "none: its CRL names a certificate that was never issued",
        )
    if row.not_before is not None:
        if row.issued_shard != row.crl_shard:
            yield Finding(
                "revocation-shard",
                f"{where}, crl_shard",
                f"{row.issued_shard} (of its issued row)",
                f"{row.crl_shard[:40]}: the CRL that its verifiers read lacks it",
            )
        if row.revocation_date < row.not_before:
            yield Finding(
                "revocation-date",
                f"{where}, revocation_date",
                f"at least {row.not_before}, its certificate's notBefore",
                str(row.revocation_date),
            )
    if row.shard_url is None:
        yield Finding(
            "revocation-shard",
            f"{where}, crl_shard",
            "a stored CRL shard",
            f"{row.crl_shard[:40]!r}, which is none",
        )
    if row.reason not in _REASONS:
        yield Finding("revocation-reason", f"{where}, reason", "a reason of this service", str(row.reason))


def inspect_shard(
    shard: CrlShard,
    issuing: x509.Certificate | None,
    revocations: Iterable[ListedRow],
    withdrawn: Container[tuple[str, str]] = (),
) -> Iterator[Finding]:
    """Check a shard's newest CRL: whose it is, what it says of itself, and whom it lists.

    `issuing` is the certificate of its authority key; None when that is not known. `withdrawn` are the
    authority key and serial of each revocation that the audit records say was withdrawn.
    """
    where = f"CRL shard {shard.name} of {shard.authority_key}"
    if not shard.crl and not shard.published_generation and shard.is_dirty:
        return  # `recover` made it anew after a rollback: its first CRL is due
    if issuing is None:
        yield Finding("crl-authority", where, "an authority key of the chain", "a key without a certificate")
        return
    try:
        crl = verify_crl(shard.crl, issuing, url=shard.url)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound) as error:
        yield Finding("crl", f"{where}, crl", f"a CRL of its authority for {shard.url}", str(error))
        return
    following = crl.next_update_utc
    for column, says, stands in (
        ("crl_number", number, shard.crl_number),
        ("this_update", int(crl.last_update_utc.timestamp()), shard.this_update),
        ("next_update", int(following.timestamp()) if following else None, shard.next_update),
    ):
        if says != stands:
            yield Finding("crl-row", f"{where}, {column}", f"{says} (of the signed CRL)", str(stands))
    dirty = shard.published_generation != shard.generation
    if shard.published_generation > shard.generation:
        yield Finding(
            "crl-generation",
            f"{where}, published_generation",
            f"at most {shard.generation}, its generation",
            str(shard.published_generation),
        )
    listed = _listed(crl)
    if dirty:  # the CRL that is due takes them out
        listed = {
            serial: entry
            for serial, entry in listed.items()
            if (shard.authority_key, serial) not in withdrawn
        }
    yield from _inspect_entries(where, listed, revocations, dirty=dirty)


def _listed(crl: x509.CertificateRevocationList) -> dict[str, tuple[int, int]]:
    """Date and reason by serial: as many as one shard has, which is what bounds this inspection's memory."""
    listed = {}
    for entry in crl:
        reason = 0
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CRLReason):
                reason = _NUMBERS.get(extension.value.reason, -1)
        listed[format_serial(entry.serial_number)] = (int(entry.revocation_date_utc.timestamp()), reason)
    return listed


_NUMBERS: Mapping[x509.ReasonFlags, int] = {
    x509.ReasonFlags(reason.label): reason.number for reason in RevocationReason
}


def _inspect_entries(
    where: str, listed: dict[str, tuple[int, int]], revocations: Iterable[ListedRow], *, dirty: bool
) -> Iterator[Finding]:
    for one in revocations:
        stands = listed.pop(one.serial, None)
        if dirty:
            continue  # it is rebuilt before it is served again; what it lacks is known
        place = f"{where}, entry {one.serial}"
        if stands is None:
            yield Finding("crl-lacks", place, "an entry: the certificate is revoked", "none")
        elif stands != (one.revocation_date, one.reason):
            yield Finding(
                "crl-entry",
                place,
                f"date {one.revocation_date}, reason {one.reason} (of the revocation)",
                f"date {stands[0]}, reason {stands[1]}",
            )
    for serial in listed:
        yield Finding(
            "crl-extra",
            f"{where}, entry {serial}",
            "a stored revocation: what a CRL has shown is taken back by `withdraw` alone",
            "none in revocations",
        )
