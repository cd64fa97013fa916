"""Issuing: who asks, for which key, decided and logged before anything is released.

The order is *decide, record, sign, record, release*: a certificate that is out is always in the log and
always known to OCSP, whatever dies in between.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import perf_counter
from typing import TypeVar

from ca_service.authority.admission import Admission, token_use
from ca_service.authority.authorities import Authorities
from ca_service.authority.log_ports import PendingCertificate, Sequenced, Sequencer, Ticket
from ca_service.authority.ports import Allowance, Clock, Observer
from ca_service.authority.publication import Publication
from ca_service.authority.status_ports import Blocks
from ca_service.authority.waiting import Steps, about_to_wait, may_wait
from ca_service.errors import AuthorityRetired, CAError, LogClosed
from ca_service.identity.claims import VerifiedToken
from ca_service.identity.possession import verify_possession
from ca_service.identity.principal import Principal, principal_for
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import ClientKey, read_csr, read_public_key
from ca_service.pki.pem import certificate_pem
from ca_service.pki.profile import (
    LeafProfile,
    Precertificate,
    build_certificate,
    build_precertificate,
    random_serial,
)
from ca_service.pki.sct import encode_sct, encode_sct_list, leaf_index_extensions
from ca_service.vocabulary import LeafIndex, LogId, Serial

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class PublicKeyProof:
    """A public key (PEM or DER) and the signature over the challenge made with its private half."""

    content: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class CsrProof:
    """A PKCS#10 request; its own signature is the proof of possession."""

    csr: bytes


@dataclass(frozen=True, slots=True)
class IssuedChain:
    """A released certificate: PEM texts, leaf first and root last, and where the log has it.

    `allowance` is what is left of the caller's rate limit, None when there is none.
    """

    certificates: tuple[str, ...]
    serial: Serial
    leaf_index: LeafIndex
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class IssuancePolicy:
    """What the operator chose: lifetime in seconds, kinds of client keys, CRL sub-shards a month.

    With `single_use_tokens` a token gets one certificate.
    """

    lifetime_seconds: int
    client_keys: frozenset[str]
    crl_subshards: int
    single_use_tokens: bool = False


@dataclass(slots=True)
class Attempt:
    """What is known of a request that may have to be begun twice; `started` is by the service's clock.

    Its token is verified, and counted for the rate limits, once.
    """

    started: float
    verified: VerifiedToken | None = None
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A certificate that everything but the log has agreed to; it is released after that."""

    entry: PendingCertificate
    authority: Authority
    precertificate: Precertificate
    allowance: Allowance | None
    answer_by: float
    started: float
    decided: float
    built: float


@dataclass(frozen=True, slots=True)
class Underway:
    """A certificate that the log is storing."""

    decided: Decided
    ticket: Ticket


ANSWER_SECONDS = 4.0
"""Clients such as sigstore-js give up after five seconds and ask again; an answer must come before that."""


class Issuance:
    """Turns an identity token and a proof of possession into a logged certificate."""

    def __init__(
        self,
        *,
        authorities: Callable[[], Authorities],
        sign_with_log_key: Callable[[LogId, bytes], bytes],
        verify_token: Callable[[str], VerifiedToken],
        sequencer: Sequencer,
        blocks: Blocks,
        publication: Publication,
        policy: IssuancePolicy,
        status_url: str,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        observer: Observer,
        admission: Admission | None = None,
        require_newest: Callable[[], object] | None = None,
        elapsed: Callable[[], float] = perf_counter,
    ) -> None:
        """Join the collaborators; `sign_with_log_key` returns the DigitallySigned struct of a log over bytes.

        Without an `admission` identities may ask as often as they like. `require_newest` raises RolledBack
        when the database is not the newest there was: RollbackGuard.refuse_when_behind. `elapsed` is a clock
        of seconds that never goes back.
        """
        self._authorities = authorities
        self._sign_with_log_key = sign_with_log_key
        self._verify_token = verify_token
        self._sequencer = sequencer
        self._blocks = blocks
        self._publication = publication
        self._policy = policy
        self._ocsp_url = f"{status_url}/ocsp"
        self._ca_issuers_prefix = f"{status_url}/ca/"
        self._clock = clock
        self._random_bytes = random_bytes
        self._observer = observer
        self._refusals = _Refusals(observer)
        self._admission = admission
        self._require_newest = require_newest
        self._elapsed = elapsed

    def issue(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt | None = None
    ) -> IssuedChain:
        """Check the token and the proof, log the precertificate, and return the certificate with its chain.

        Whatever it waits for, all waits share ANSWER_SECONDS: none begins anew where another ended. `attempt`
        is one that was broken off by WouldWait.
        Raises an InvalidRequest for a token, key, proof or identity that is not accepted, RateLimited, and an
        Unavailable when the log, the database or the issuer's keys cannot be had; nothing is released then.
        """
        with self._refusals:
            decided = _done(self._deciding(token, key, attempt or Attempt(self._elapsed())))
            self._note_times(decided)
            sequenced = self._sequencer.append(decided.entry, self._left(decided.answer_by))
            return _done(self._finishing(decided, sequenced))

    def prepare(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt, done: Callable[[], None]
    ) -> Steps[Underway]:
        """The same without waiting for the log: `done` is called, in another thread, when `finish` may be.

        It is done in steps, so that many can take each of them one after the other, while what it needs is
        in the processor's caches. What was prepared is stored once `flush` is called. Raises as `issue` does,
        and WouldWait in a thread that may not wait; `issue` with the same `attempt` then goes on.
        """
        with self._refusals:
            decided = yield from self._deciding(token, key, attempt)
            underway = Underway(decided, self._sequencer.submit(decided.entry, done))
            self._note_times(decided)
            return underway

    def flush(self) -> None:
        """Let the log store what was prepared."""
        self._sequencer.begin()

    def finish(self, underway: Underway) -> Generator[None, None, IssuedChain]:
        """Release what was prepared, in steps, after `done` or when nobody waits longer.

        Raises as `issue` does, and WouldWait in a thread that may not wait when the log has just changed:
        call it in another.
        """
        with self._refusals:
            decided = underway.decided
            try:
                sequenced = underway.ticket.result()
            except LogClosed:
                about_to_wait()
                sequenced = self._sequencer.append(decided.entry, self._left(decided.answer_by))
            return (yield from self._finishing(decided, sequenced))

    def _deciding(self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt) -> Steps[Decided]:
        started = self._elapsed()
        answer_by = attempt.started + ANSWER_SECONDS
        # (0) Nothing is signed when the database was rolled back; the sequencer asks again under its lock.
        if self._require_newest is not None:
            self._require_newest()
        # (1) Who asks, and not too often: the verified token, and the one name the certificate will carry.
        verified = attempt.verified
        if verified is None:
            verified = self._verify_token(token)
            if self._admission is not None:
                attempt.allowance = yield from _admitted(self._admission, verified)
            attempt.verified = verified
            yield None
        principal = principal_for(verified)
        # (2) For which key, and does the caller hold its private half?
        client_key = self._proven_key(key, principal)
        yield None
        # (3) A quick refusal for the blocked; the sequencer checks again under the lock that blocking takes.
        key_sha256 = client_key.key_sha256
        self._blocks.check(principal.subject, principal.oidc_issuer, principal.oidc_subject, key_sha256)
        decided = self._elapsed()

        # (4) The precertificate, with the URLs that its status will be asked at for years.
        authority, profile, shard = self._profile(principal, client_key, answer_by)
        precertificate = build_precertificate(authority, profile)
        built = self._elapsed()
        yield None
        entry = PendingCertificate(
            serial=profile.serial,
            authority_key=authority.key_id,
            precertificate=precertificate.der,
            tbs=precertificate.tbs,
            issuer_key_hash=authority.issuer_key_hash,
            chain=authority.chain_der,
            subject=principal.subject,
            oidc_issuer=principal.oidc_issuer,
            oidc_subject=principal.oidc_subject,
            key_sha256=key_sha256,
            not_before=int(profile.not_before.timestamp()),
            not_after=int(profile.not_after.timestamp()),
            crl_shard=shard,
            token_use=token_use(token, verified) if self._policy.single_use_tokens else None,
        )
        return Decided(
            entry, authority, precertificate, attempt.allowance, answer_by, started, decided, built
        )

    def _note_times(self, decided: Decided) -> None:
        # Once it is sure that it is not begun anew.
        self._observer.duration("decide", decided.decided - decided.started)
        self._observer.duration("precertificate", decided.built - decided.decided)

    def _finishing(self, decided: Decided, sequenced: Sequenced) -> Generator[None, None, IssuedChain]:
        # (5) It is durable in the log, and known to OCSP, before anybody can hold it.
        logged = self._elapsed()
        self._observer.duration("log", logged - decided.built)
        # (6) Only now the log's promise and the certificate itself, outside every lock.
        sct = encode_sct(
            sequenced.log_id,
            sequenced.timestamp,
            leaf_index_extensions(sequenced.leaf_index),
            self._sign_with_log_key(sequenced.log_id, sequenced.leaf),
        )
        yield
        authority = decided.authority
        certificate = build_certificate(authority, decided.precertificate, encode_sct_list([sct]))
        self._observer.duration("certificate", self._elapsed() - logged)
        yield
        self._observer.count("certificate_issued")
        return IssuedChain(
            certificates=(certificate_pem(certificate), *authority.chain_pems),
            serial=decided.entry.serial,
            leaf_index=sequenced.leaf_index,
            allowance=decided.allowance,
        )

    def _proven_key(self, key: PublicKeyProof | CsrProof, principal: Principal) -> ClientKey:
        if isinstance(key, CsrProof):
            return read_csr(key.csr, self._policy.client_keys)
        client_key = read_public_key(key.content, self._policy.client_keys)
        verify_possession(client_key.public_key, key.proof, principal.challenges)
        return client_key

    def _left(self, answer_by: float) -> float:
        return max(answer_by - self._elapsed(), 0.0)

    def _profile(
        self, principal: Principal, client_key: ClientKey, answer_by: float
    ) -> tuple[Authority, LeafProfile, str]:
        # Floored to the second: a notBefore in the future is refused by clients whose clock is exact.
        not_before = self._clock() // 1000
        authority = self._authorities().issuing(not_before)
        issues_until = int(authority.issues_until.timestamp())
        if not_before >= issues_until:
            raise AuthorityRetired(
                f"the issuing certificate {authority.key_id} issued until "
                f"{authority.issues_until:%Y-%m-%dT%H:%M:%SZ}; the operator must rotate the authority"
            )
        not_after = min(not_before + self._policy.lifetime_seconds, issues_until)
        serial = random_serial(self._random_bytes)
        shard = shard_name(not_before, serial, self._policy.crl_subshards)
        return (
            authority,
            LeafProfile(
                spki=client_key.spki,
                subject=principal.subject,
                extensions=principal.extensions,
                serial=serial,
                not_before=datetime.fromtimestamp(not_before, UTC),
                not_after=datetime.fromtimestamp(not_after, UTC),
                ocsp_url=self._ocsp_url,
                ca_issuers_url=f"{self._ca_issuers_prefix}{authority.key_id}.crt",
                # The shard's first CRL is stored, and so served, before a leaf can name it.
                crl_url=self._publication.ensure(authority.key_id, shard, not_before, self._left(answer_by)),
            ),
            shard,
        )


def _admitted(admission: Admission, verified: VerifiedToken) -> Steps[Allowance | None]:
    question = None if may_wait() else admission.ask(verified)
    if question is None:
        return admission.admit(verified)
    yield question
    return admission.settled(question.answers)


class _Refusals:
    """A context, for any number of threads and steps, that counts the refusals that leave it."""

    __slots__ = ("_observer",)

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, CAError):
            self._observer.count("certificate_refused", reason=error.reason)


def _done(steps: Steps[_Result]) -> _Result:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result


def shard_name(issued_at: int, serial: int, subshards: int) -> str:
    """Name the CRL shard of a certificate: month of issue and two hex digits of sub-shard, 2026-11-0a.

    `issued_at` is seconds since 1970; the serial is random, so its last octet spreads evenly.
    """
    return f"{_month(issued_at // 86_400)}-{(serial & 0xFF) % subshards:02x}"


@lru_cache(maxsize=64)
def _month(day: int) -> str:
    return f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m}"
