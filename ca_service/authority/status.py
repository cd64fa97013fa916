"""Answering OCSP: good only for what was issued here, revoked as soon as it is, never good in doubt."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ca_service.authority.authorities import Authorities
from ca_service.authority.ports import Clock, Observer
from ca_service.authority.status_ports import CertificateStatus, Revocations
from ca_service.errors import CAError
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.ocsp import (
    CertId,
    CertStatus,
    ErrorStatus,
    OcspMalformed,
    Signer,
    SingleAnswer,
    build_response,
    error_response,
    parse_request,
)
from ca_service.vocabulary import Serial

_LONGEST_CACHED_REQUEST = 1024
"""Octets; a request for one certificate has about a hundred, and only such are worth memory."""

_JUST_REVOKED = 60
"""Seconds after the decision in which a revoked answer may have the date of a good one, clocks of nodes and a
wait for the database included."""

_RETENTION = timedelta(days=3653)
"""Ten years at least, for which answers are given after a certificate's expiry (RFC 6960 §4.4.4)."""


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """A DER OCSPResponse and how long others may keep it; times are seconds since 1970, max_age seconds.

    `dated`: no answer that says less can have been produced in the same second. `verdicts` are what it says
    of each certificate that was asked for, none in an error response. `later` says that another process may
    answer what this one cannot now.
    """

    der: bytes
    cacheable: bool
    produced_at: int
    next_update: int
    max_age: int
    etag: str
    dated: bool = True
    verdicts: tuple[CertStatus, ...] = ()
    later: bool = False


@dataclass(frozen=True, slots=True)
class StatusPolicy:
    """How long an answer holds, and how long caches in between may repeat it, in seconds.

    `reuse_seconds` is how long this process hands out the same signed answer while nothing was revoked.
    """

    valid_seconds: int
    max_age_seconds: int
    reuse_seconds: int = 300
    cache_size: int = 20_000


class StatusResponder:
    """Answers OCSP requests of any form with a response, an OCSP error at worst."""

    def __init__(
        self,
        *,
        authorities: Callable[[], Authorities],
        revocations: Revocations,
        policy: StatusPolicy,
        clock: Clock,
        observer: Observer,
        signer_of: Callable[[Authority], Signer] | None = None,
        require_keys: Callable[[], None] = lambda: None,
    ) -> None:
        """Join the collaborators; every authority that ever issued stays among the authorities.

        `require_keys` raises a CAError when one that issued is missing here all the same: another node has it
        then, and whose certificate it is that nobody here knows cannot be told.
        `signer_of` gives the delegate that signs in an authority's place; without it, each signs itself.
        """
        self._revocations = revocations
        self._policy = policy
        self._clock = clock
        self._observer = observer
        self._authorities = authorities
        self._signer_of = signer_of
        self._require_keys = require_keys
        self._cache: OrderedDict[bytes, tuple[int, OcspAnswer]] = OrderedDict()
        self._cache_lock = threading.Lock()

    def respond(self, request: bytes) -> OcspAnswer:
        """Answer a DER OCSPRequest; never raises for what a caller sends.

        A cached answer is used only while the revocation generation in the database is the one it was made
        under, so no revocation is ever hidden by a cache. When the store cannot be read: tryLater.
        """
        try:
            generation = self._revocations.generation()
            cached = self._cached(request, generation)
            if cached is not None:
                self._count(cached)
                return cached
            answer = self._answer(request, generation)
        except OcspMalformed:
            return self._error(ErrorStatus.MALFORMED_REQUEST)
        except CAError:
            return self._error(ErrorStatus.TRY_LATER)
        self._count(answer)
        return answer

    def _count(self, answer: OcspAnswer) -> None:
        for verdict in answer.verdicts:
            self._observer.count("ocsp_status", status=verdict.value)

    def _answer(self, request: bytes, generation: int) -> OcspAnswer:
        asked = parse_request(request)
        ours = self._authorities()
        authorities = {
            ours.named((cert_id.hash_name, cert_id.issuer_name_hash, cert_id.issuer_key_hash))
            for cert_id in asked.cert_ids
        }
        authority = authorities.pop()
        if authority is None:
            self._require_keys()
        if authority is None or authorities:
            # RFC 6960 §2.3: not our certificates, or not answerable under one signature.
            return self._error(ErrorStatus.UNAUTHORIZED)

        now = self._clock() // 1000
        this_update = datetime.fromtimestamp(now, UTC)
        next_update = this_update + timedelta(seconds=self._policy.valid_seconds)
        signer: Signer = authority
        if self._signer_of is not None:
            signer = self._signer_of(authority)
            next_update = min(next_update, signer.not_after)
        statuses = [self._status(authority, cert_id) for cert_id in asked.cert_ids]
        singles = [
            self._single(cert_id, status, this_update, next_update)
            for cert_id, status in zip(asked.cert_ids, statuses, strict=True)
        ]
        der = build_response(
            signer,
            singles,
            produced_at=this_update,
            nonce=asked.nonce,
            # Nothing is forgotten as long as the key signs, which may be longer.
            archive_cutoff=min(this_update - _RETENTION, authority.certificate.not_valid_before_utc),
        )
        all_issued = all(status.issued for status in statuses)
        until = int(next_update.timestamp())
        answer = OcspAnswer(
            der=der,
            # An unknown serial may be issued a moment later, and a nonce is for one asker alone.
            cacheable=asked.nonce is None and all_issued,
            produced_at=now,
            next_update=until,
            max_age=max(0, min(self._policy.max_age_seconds, until - now - 1)),
            etag=hashlib.sha256(der).hexdigest(),
            dated=all(
                status.revocation is None or now - status.revocation.revoked_at > _JUST_REVOKED
                for status in statuses
            ),
            verdicts=tuple(single.status for single in singles),
        )
        if answer.cacheable and len(request) <= _LONGEST_CACHED_REQUEST:
            self._remember(request, generation, answer)
        return answer

    def _status(self, authority: Authority, cert_id: CertId) -> CertificateStatus:
        if cert_id.serial < 0:
            # No serial is negative (RFC 5280 §4.1.2.2), and the store has no place for one.
            return CertificateStatus(issued=False, revocation=None)
        return self._revocations.status(authority.key_id, Serial(cert_id.serial))

    def _single(
        self, cert_id: CertId, status: CertificateStatus, this_update: datetime, next_update: datetime
    ) -> SingleAnswer:
        revocation = status.revocation
        if revocation is not None:
            verdict = CertStatus.REVOKED
        else:
            verdict = CertStatus.GOOD if status.issued else CertStatus.UNKNOWN
        return SingleAnswer(
            cert_id=cert_id,
            status=verdict,
            this_update=this_update,
            next_update=next_update,
            revocation_date=revocation.revocation_date if revocation else None,
            reason=revocation.reason.number if revocation else 0,
        )

    def _cached(self, request: bytes, generation: int) -> OcspAnswer | None:
        found = self._cache.get(request)
        if found is None:
            return None
        made_under, answer = found
        now = self._clock() // 1000
        is_fresh = 0 <= now - answer.produced_at < self._policy.reuse_seconds and now < answer.next_update
        return answer if made_under == generation and is_fresh else None

    def _remember(self, request: bytes, generation: int, answer: OcspAnswer) -> None:
        with self._cache_lock:
            self._cache[request] = (generation, answer)
            while len(self._cache) > self._policy.cache_size:
                self._cache.popitem(last=False)

    def _error(self, status: ErrorStatus) -> OcspAnswer:
        self._observer.count("ocsp_error", status=status.name.lower())
        now = self._clock() // 1000
        return OcspAnswer(
            der=error_response(status),
            cacheable=False,
            produced_at=now,
            next_update=now,
            max_age=0,
            etag="",
            later=status is ErrorStatus.TRY_LATER,
        )
