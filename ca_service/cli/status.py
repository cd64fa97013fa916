"""`status`: does a certificate still hold?"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import config_option, json_option
from ca_service.cli.subjects import Subject, SubjectArgument
from ca_service.errors import ConfigurationError, NotFound, StatusUnanswered
from ca_service.vocabulary import format_serial, format_time, parse_time

if TYPE_CHECKING:
    from ca_service.cli.crl_mirror import Mirror
    from ca_service.cli.signing_time import SigningTime
    from ca_service.cli.verdicts import Question, Verdict
    from ca_service.settings import Settings

_CHAIN_FILE = "fulcio.pem"
_TRUSTED_ROOT = "trusted_root.json"
_UNVERIFIED = (
    "the time of signing is what the bundle says, which whoever holds a stolen key can write; give --trust"
    " with the key of its Rekor or the chain of its timestamp authority, or --at"
)


@click.command()
@click.argument("subject", type=SubjectArgument(), metavar="SERIAL|CERT.pem")
@config_option(required=False)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="The authority to believe: a folder that `export-trust` made.",
)
@click.option(
    "--issuer-chain",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The authority to believe: its PEM chain, issuing certificate and root.",
)
@click.option("--status-url", metavar="URL", help="Where to ask about a bare serial, without --config.")
@click.option(
    "--offline",
    "mirror",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Ask nobody: judge by the lists in a folder that `crl mirror` keeps.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Say what it means for a signature made then (RFC 3339, or a date).  [default: a bundle's time]",
)
@json_option
def status(
    subject: Subject,
    settings: "Settings | None",
    trust: Path | None,
    issuer_chain: Path | None,
    status_url: str | None,
    mirror: Path | None,
    at: str | None,
    as_json: bool,
) -> int:
    """Ask whether a certificate still holds, as a verifier does.

    Asks OCSP at the address that the certificate names, then its CRL, and believes only answers that the
    authority signed, for this certificate, that are not out of date, and that still know certificates which
    have expired. A bare SERIAL is asked by OCSP at the settings' status address. The issuing certificate's
    own status is asked of its root's CRL.

    The file is PEM (its first certificate), DER, a Sigstore bundle, a bundle of cosign 2, or a commit signed
    with gitsign; - is standard input. The authority to believe is taken from one of --config, --trust and
    --issuer-chain; without any, a certificate's authority is fetched from the address in it, and a note says
    that you took its word for who that is.

    With --at, or a bundle whose time a Rekor or a timestamp authority of --trust signed, the exit code is
    about a signature made at that moment. Any other time in a bundle is shown, and decides nothing.

    Exit codes: 0 good, 1 revoked or unknown (or not good at that moment), 3 nobody gave a trustworthy answer.
    """
    from ca_service.cli.crl_mirror import Mirror
    from ca_service.cli.revocation_check import ask
    from ca_service.cli.signing_time import meaning

    now = datetime.now(UTC)
    signed = _signed_at(subject, at, trust, now)
    lists = None if mirror is None else Mirror(mirror)
    chain, doubts = _believed(subject, settings, trust, issuer_chain, offline=mirror is not None)
    questions = _questions(
        subject, chain, settings.service.status_url if settings else status_url, offline=mirror is not None
    )
    for question in questions:
        verdict = ask(question, now, lists)
        if verdict.status != "unknown":
            break
    issuing = _of_issuing(question.issuer, chain, now, lists)
    remarks = [*doubts, *verdict.remarks, *([issuing] if isinstance(issuing, str) else [])]
    verdicts = [verdict]
    if not isinstance(issuing, str) and issuing.status != "good":
        remarks.append("the issuing certificate itself was revoked, and with it every certificate it issued")
        verdicts.append(issuing)
        verdict = issuing
    facts: dict[str, object] = {
        "serial": format_serial(subject.serial),
        "status": verdict.status,
        "revocation_date": verdict.revocation_date and format_time(verdict.revocation_date),
        "reason": verdict.reason,
        "source": verdict.source,
        "url": verdict.url,
        "this_update": format_time(verdict.this_update),
        "next_update": format_time(verdict.next_update),
        "at": None,
        "remarks": remarks,
    }
    good, told = verdict.status == "good", []
    if signed is not None:
        meant = meaning(subject.certificate, verdicts, signed.moment)
        facts["at"] = {
            "time": format_time(signed.moment),
            "source": signed.source,
            "counts": meant.holds,
            "meaning": meant.sentence,
        }
        told.append(meant.sentence)
        if signed.trusted:
            good = meant.holds
        else:
            remarks.append(_UNVERIFIED)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo("\n  ".join([_sentence(facts), *told]))
        for remark in remarks:
            click.echo(f"note: {remark}", err=True)
    return DONE if good else ANSWER_IS_NO


def _signed_at(subject: Subject, at: str | None, trust: Path | None, now: datetime) -> "SigningTime | None":
    from ca_service.cli.signing_time import SigningTime, signing_time

    if at is None:
        if subject.bundle is None or subject.certificate is None:
            return None
        root = None if trust is None else trust / _TRUSTED_ROOT
        return signing_time(subject.bundle, subject.certificate, root)
    try:
        moment = parse_time(at)
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from None
    if moment > now:
        raise click.UsageError("--at: it is in the future, of which no answer says anything")
    return SigningTime(moment, "given")


def _sentence(facts: Mapping[str, object]) -> str:
    source = f"{str(facts['source']).upper()} of {facts['this_update']}, {facts['url']}"
    if facts["status"] == "revoked":
        return (
            f"{facts['serial']}: revoked ({facts['reason']}); signatures from {facts['revocation_date']} on"
            f" are not to be trusted\n  {source}"
        )
    return f"{facts['serial']}: {facts['status']}\n  {source}"


def _believed(
    subject: Subject,
    settings: "Settings | None",
    trust: Path | None,
    issuer_chain: Path | None,
    *,
    offline: bool,
) -> tuple[list[x509.Certificate], list[str]]:
    """The authority's chain, and what to say against believing it."""
    from ca_service.cli.revocation_check import fetch_chain

    given = [one for one in (settings, trust, issuer_chain) if one is not None]
    if len(given) > 1:
        raise click.UsageError("give only one of --config, --trust and --issuer-chain")
    if settings is not None:
        from ca_service.app.material import chains

        return [certificate for chain in chains(settings) for certificate in chain], []
    if trust is not None:
        return _chain(trust / _CHAIN_FILE), []
    if issuer_chain is not None:
        return _chain(issuer_chain), []
    if subject.certificate is None:
        raise click.UsageError(
            "a serial alone says nothing of its authority; add --config, or --trust or --issuer-chain with"
            " --status-url"
        )
    if offline:
        raise click.UsageError("offline nobody tells whom to believe; add --trust or --issuer-chain")
    return fetch_chain(subject.certificate), [
        (
            "the authority was taken from the address in the certificate, which anybody could have written;"
            " give --config, --trust or --issuer-chain to believe only yours"
        )
    ]


def _chain(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except ValueError:
        raise ConfigurationError(
            f"{file} holds no PEM certificates; expected the authority's chain"
        ) from None


def _questions(
    subject: Subject, chain: list[x509.Certificate], status_url: str | None, *, offline: bool
) -> "list[Question]":
    """What to ask: about a bare serial each issuing key, of which one at most knows it."""
    from ca_service.cli.revocation_check import question_of
    from ca_service.cli.verdicts import Question

    if subject.certificate is not None:
        for candidate in chain:
            if _issued(subject.certificate, candidate):
                return [question_of(subject.certificate, candidate)]
        raise NotFound("the certificate was not issued by this authority, so it has no status there")
    if offline:
        raise click.UsageError("a serial does not say which list it would be on; give the certificate")
    if status_url is None:
        raise click.UsageError(
            "a serial names no address; add --config or --status-url, or give the certificate"
        )
    issuing = [one for one in dict.fromkeys(chain) if not _issued(one, one)] or chain[:1]
    return [Question(subject.serial, one, f"{status_url}/ocsp", None) for one in issuing]


def _of_issuing(
    issuing: x509.Certificate, chain: list[x509.Certificate], now: datetime, mirror: "Mirror | None"
) -> "Verdict | str":
    """The status of the issuing certificate by its root's CRL, or a sentence why it is not known."""
    from ca_service.cli.revocation_check import ask, question_of

    root = next((one for one in chain if one != issuing and _issued(issuing, one)), None)
    if root is None:
        return "the issuing certificate's own status was not asked: the chain has no root"
    try:
        return ask(question_of(issuing, root), now, mirror)
    except StatusUnanswered as error:
        return f"the issuing certificate's own status is not known: {error.message}"


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
