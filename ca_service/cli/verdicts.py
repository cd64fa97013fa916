"""Questions about a certificate's status, the verdicts on them, and what every answer must hold to."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509

from ca_service.pki import der
from ca_service.vocabulary import RevocationReason, Serial

SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Question:
    """Which certificate of which issuing certificate, and where to ask; `not_after` is its end, if known."""

    serial: Serial
    issuer: x509.Certificate
    ocsp_url: str | None
    crl_url: str | None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verified answer says: status is good, revoked or unknown; `source` is ocsp or crl."""

    status: str
    source: str
    url: str
    this_update: datetime
    next_update: datetime
    revocation_date: datetime | None = None
    reason: str | None = None
    remarks: tuple[str, ...] = field(default=())


def check_times(this_update: datetime, next_update: datetime | None, now: datetime) -> datetime:
    """Return nextUpdate of an answer that holds now; raises ValueError for one that does not."""
    if this_update > now + SKEW:
        raise ValueError("the answer is from the future; check this machine's clock")
    if next_update is None:
        raise ValueError("the answer does not say until when it holds")
    if next_update < now:
        raise ValueError(f"the answer is out of date: it held until {next_update:%Y-%m-%dT%H:%M:%SZ}")
    return next_update


def check_memory(question: Question, since: datetime | None, now: datetime) -> None:
    """Raise ValueError when `good` may mean that an expired certificate was forgotten.

    `since` is what the answer says: those that expired from then on are still known (archiveCutoff of RFC
    6960 §4.4.4, expiredCertsOnCRL of X.509).
    """
    ended = question.not_after
    if ended is None or ended >= now:
        return
    if since is None or since > ended:
        raise ValueError(
            f"the answer does not say that it still knows certificates that expired {ended:%Y-%m-%d %H:%M}"
        )


def generalized_time(value: bytes) -> datetime | None:
    """The time in the DER of an extension that is a GeneralizedTime in whole seconds UTC; None otherwise."""
    try:
        text = der.only(value, 0x18).decode("ascii")
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (der.DerError, ValueError):
        return None


def reason_label(flag: x509.ReasonFlags | None) -> str:
    """A reason by its RFC 5280 name."""
    return RevocationReason.UNSPECIFIED.label if flag is None else str(flag.value)
