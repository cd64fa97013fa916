"""Reading back what was published: CRLs outlive the database that made them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from ca_service.authority.mark import CrlName, Mark
from ca_service.authority.status_ports import Revocation
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.crl import verify_crl
from ca_service.vocabulary import KeyId, RevocationReason, Serial

_PATH = re.compile(r"/crl/([0-9a-f]{40})/([0-9a-z][0-9a-z-]{0,63})\.crl")
TAKEN_BACK = "taken back from a published CRL"
"""The comment of revocations that a recovery brought back: their certificates may be forgotten."""

_MONTH = re.compile(r"(\d{4})-(\d{2})-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A CRL of a shard as it was once published: verified, with its number and what it revokes."""

    name: CrlName
    url: str
    number: int
    this_update: int
    revocations: tuple[Revocation, ...]


def read_published(der: bytes, authorities: Mapping[KeyId, Authority], status_url: str) -> PublishedList:
    """Verify a CRL (DER) as one of a shard of these authorities and read it.

    Raises ValueError with a sentence: broken DER, of another service, of the root, or not signed by us. It
    may be expired: what it revokes stays revoked.
    """
    crl = x509.load_der_x509_crl(der)
    url = _distribution_point(crl)
    found = _PATH.fullmatch(url.removeprefix(status_url)) if url.startswith(status_url) else None
    if found is None or KeyId(found[1]) not in authorities:
        raise ValueError(f"it is the CRL of {url or 'no shard'}, which is none of this service's shards")
    key, shard = KeyId(found[1]), found[2]
    verify_crl(der, authorities[key].certificate, url=url)
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        raise ValueError("it has no CRL number") from None
    this_update = int(crl.last_update_utc.timestamp())
    revocations = tuple(_revocation(entry, key, shard, this_update) for entry in crl)
    return PublishedList((key, shard), url, number, this_update, revocations)


def newest_of(lists: Iterable[PublishedList]) -> dict[CrlName, PublishedList]:
    """The list with the highest number of each shard."""
    newest: dict[CrlName, PublishedList] = {}
    for each in lists:
        if each.name not in newest or newest[each.name].number < each.number:
            newest[each.name] = each
    return newest


def still_missing(mark: Mark, found: Mark, lists: Mapping[CrlName, PublishedList]) -> dict[CrlName, int]:
    """The CRLs, by their number, without which revocations may stay lost: published after the database."""
    return {
        name: number
        for name, number in mark.crl_numbers.items()
        if number > found.crl_numbers.get(name, 0) and (name not in lists or lists[name].number < number)
    }


def covers_from(shard: str, otherwise: int) -> int:
    """From when (seconds) a shard's certificates expire, by its name; `otherwise` for an unusual name."""
    month = _MONTH.fullmatch(shard)
    if month is None or not 1 <= int(month[2]) <= 12:
        return otherwise
    return int(datetime(int(month[1]), int(month[2]), 1, tzinfo=UTC).timestamp())


def _distribution_point(crl: x509.CertificateRevocationList) -> str:
    try:
        point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return ""
    names = [name.value for name in point.full_name or () if isinstance(name, x509.UniformResourceIdentifier)]
    return names[0] if names else ""


def _revocation(entry: x509.RevokedCertificate, key: KeyId, shard: str, seen: int) -> Revocation:
    try:
        flag = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        reason = RevocationReason.from_label(flag.value)
    except x509.ExtensionNotFound:
        reason = RevocationReason.UNSPECIFIED
    return Revocation(
        serial=Serial(entry.serial_number),
        authority_key=key,
        crl_shard=shard,
        revocation_date=int(entry.revocation_date_utc.timestamp()),
        revoked_at=seen,
        reason=reason,
        comment=TAKEN_BACK,
    )
