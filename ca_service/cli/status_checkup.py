"""What `doctor` looks at of the status of certificates: the root's CRL, and who signs OCSP answers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ca_service.app.ocsp_delegates import OcspDelegates
from ca_service.app.root_crls import read_root_crl
from ca_service.cli.findings import FAILED, GOOD, WARNING, Finding
from ca_service.pki.authority_certificates import Authority
from ca_service.settings import Settings
from ca_service.vocabulary import format_seconds, format_time

_SOON_CRL = timedelta(days=60)
_SOON_DELEGATE = timedelta(days=6)  # renewed when it has seven


def root_crl(settings: Settings, authority: Authority, now: datetime) -> Iterator[Finding]:
    """How long the root's CRL holds; raises ConfigurationError when it is none."""
    crl = read_root_crl(settings, authority.root).published
    next_update = datetime.fromtimestamp(crl.next_update, UTC)
    if now >= next_update:
        verdict, advice = (
            FAILED,
            "verifiers that ask for it refuse every certificate; `ca-service root-crl`",
        )
    elif now >= next_update - _SOON_CRL:
        verdict, advice = WARNING, "renew it soon, with the root key: `ca-service root-crl`"
    else:
        verdict, advice = GOOD, f"signed {format_seconds(crl.this_update)}"
    yield Finding("root CRL", verdict, f"valid until {format_time(next_update)}; {advice}")


def delegate(delegates: OcspDelegates, authority: Authority, now: datetime) -> Iterator[Finding]:
    """How long the delegate of an issuing key signs; raises SignerUnavailable."""
    signer, path = delegates.present(authority), delegates.path(authority)
    if signer is None:
        yield Finding("OCSP responder", GOOD, f"none in {path} yet; made when it is first needed")
    elif signer.not_after - now < _SOON_DELEGATE:
        told = f"{path} signs until {format_time(signer.not_after)} and was not renewed; can it be written?"
        yield Finding("OCSP responder", WARNING, told)
    else:
        yield Finding("OCSP responder", GOOD, f"{path} signs until {format_time(signer.not_after)}")
