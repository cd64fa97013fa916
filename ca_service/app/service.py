"""The parts of a running service and how they are joined.

Nothing is opened here that would not survive a fork: connections and threads begin in the process that
uses them.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from flask import Flask

from ca_service.app import material
from ca_service.app.administration import Administration, administration_of
from ca_service.app.authorities import AuthoritiesInForce
from ca_service.app.housekeeping import Housekeeping
from ca_service.app.issuers import IssuersInForce
from ca_service.app.log_export import LogExport
from ca_service.app.log_shards import ShardedLog
from ca_service.app.ocsp_delegates import OcspDelegates
from ca_service.app.readiness import Readiness
from ca_service.app.rollback import guard_of
from ca_service.app.root_crls import RootCrlInForce
from ca_service.authority.admission import Admission, RateLimits
from ca_service.authority.guarded import GuardedRevocations, GuardedShards
from ca_service.authority.issuance import Issuance, IssuancePolicy
from ca_service.authority.ports import Clock, RateLimiter, WakeUps
from ca_service.authority.publication import Publication, PublicationPolicy
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.status import StatusPolicy, StatusResponder
from ca_service.authority.trust import TrustMaterial
from ca_service.authority.waiting import Lately
from ca_service.cache.memory import MemoryRateLimiter
from ca_service.cache.redis_server import RedisRateLimiter
from ca_service.cache.wake_ups import wake_ups_of
from ca_service.errors import CAError
from ca_service.oidc.verifier import TokenVerifier
from ca_service.outbound.client import OutboundClient
from ca_service.pki.authority_certificates import Authority
from ca_service.settings import Settings
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.desk import revocation_desk
from ca_service.store.faults import tell_of_errors
from ca_service.store.position import SqlPosition
from ca_service.store.revocations import SqlRevocations
from ca_service.store.shards import SqlShards
from ca_service.store.token_uses import SqlTokenUses
from ca_service.telemetry.logs import begin_request, record_access, record_fault
from ca_service.telemetry.metrics import PrometheusObserver
from ca_service.vocabulary import TimestampMs
from ca_service.web import admin, dev_idp, fulcio, health, home, log, openapi, static_log, status, trust
from ca_service.web.application import AccessRecord, base_app
from ca_service.web.dev_idp import DevIdentityProvider
from ca_service.web.overload import Overload

_RELAXED_MARK_SECONDS = 1.0
_RECENT_MS = 100
"""How old an answer may be that the sequencer asks for again, under its lock, before anything is logged."""


@dataclass(frozen=True)
class Service:
    """The parts of one running service, joined; the web application and the command line both use it."""

    settings: Settings
    database: Database
    authorities: AuthoritiesInForce
    log: ShardedLog
    guard: RollbackGuard
    issuers: IssuersInForce
    tokens: TokenVerifier
    issuance: Issuance
    revocations: GuardedRevocations
    responder: StatusResponder
    publication: Publication
    desk: RevocationDesk
    trust: TrustMaterial
    token_uses: SqlTokenUses
    administration: Administration
    wake_ups: WakeUps
    housekeeping: Housekeeping
    readiness: Readiness
    observer: PrometheusObserver
    delegates: OcspDelegates | None = None
    export: LogExport | None = None
    dev: DevIdentityProvider | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def authority(self) -> Authority:
        """The authority that issues now."""
        return self.authorities.issuing()

    def after_fork(self) -> None:
        """Begin what belongs to a worker process: the threads that keep lists, tree head and files fresh."""
        self.observer.level("workers", 1)
        house = self.housekeeping.run
        threading.Thread(target=house, args=(self._stopping,), name="housekeeping", daemon=True).start()
        if not self.settings.high_water_mark.strict:
            threading.Thread(target=self._keep_mark, name="high-water-mark", daemon=True).start()
        if self.export is not None:
            target = self.export.run
            threading.Thread(target=target, args=(self._stopping,), name="log-export", daemon=True).start()

    def checks(self) -> Mapping[str, str | None]:
        """Ask each part that issuing needs whether it works: its name, and None or what is wrong."""
        return self.readiness.needed()

    def extras(self) -> Mapping[str, str | None]:
        """As `checks`, of what the service goes on without."""
        return self.readiness.extras()

    def close(self) -> None:
        """End threads and connections; what was accepted into the queue is finished first."""
        self._stopping.set()
        self.wake_ups.close()
        self.log.close()
        self.database.close()

    def _keep_mark(self) -> None:
        while not self._stopping.wait(_RELAXED_MARK_SECONDS):
            try:
                self.guard.catch_up()
            except CAError as error:
                self.observer.count("high_water_mark_failed", reason=error.reason)


def _clock() -> TimestampMs:
    return TimestampMs(time.time_ns() // 1_000_000)


def build_service(
    settings: Settings, dev: DevIdentityProvider | None = None, clock: Clock = _clock
) -> Service:
    """Join the parts as the settings say; `dev` adds the development identity provider, in memory.

    Opens no connection and starts no thread. Raises ConfigurationError naming the setting at fault.
    """
    secret = material.passphrase(settings)
    observer = PrometheusObserver()
    tell_of_errors(lambda kind: observer.count("database_error", kind=kind))
    database = Database(settings.database.url, folder=settings.folder)
    authorities = AuthoritiesInForce(settings, secret, clock)
    log_keys = material.LogKeys(settings, authorities.issuing(), secret)
    guard = guard_of(settings, database, observer)
    sharded_log = ShardedLog(settings, database, authorities.current, log_keys, clock, observer, guard)
    issuers = IssuersInForce(settings, dev.issuer() if dev else None)
    tokens = TokenVerifier(
        issuers.current,
        OutboundClient(settings.oidc.private_networks).get,
        clock,
        built_in_keys={dev.issuer_url: dev.jwks()} if dev else {},
        stale_seconds=settings.oidc.stale_keys_hours * 3600,
        observer=observer,
    )
    delegates = (
        OcspDelegates(settings.ocsp.delegates_dir, secret, clock)
        if settings.ocsp.signer == "delegated"
        else None
    )
    revocations = GuardedRevocations(SqlRevocations(database, clock), guard)
    publication = Publication(
        authorities=authorities.current,
        shards=GuardedShards(SqlShards(database), guard),
        root_crls=RootCrlInForce(settings, authorities.issuing().root),
        status_url=settings.service.status_url,
        policy=PublicationPolicy(
            valid_seconds=settings.crl.valid_hours * 3600, refresh_seconds=settings.crl.refresh_hours * 3600
        ),
        clock=clock,
        observer=observer,
    )
    limiter = _limiter(settings, observer)
    wake_ups = wake_ups_of(settings.redis.url, settings.service.url, observer)
    desk = revocation_desk(database, guard, clock, observer, wake_ups)
    blocks = SqlBlocks(database, clock, fresh_ms=_RECENT_MS)
    token_uses = SqlTokenUses(database, clock)
    return Service(
        settings=settings,
        database=database,
        authorities=authorities,
        log=sharded_log,
        guard=guard,
        issuers=issuers,
        tokens=tokens,
        issuance=Issuance(
            authorities=authorities.current,
            sign_with_log_key=log_keys.sign,
            verify_token=tokens.verify,
            sequencer=sharded_log.sequencer,
            blocks=blocks,
            publication=publication,
            policy=IssuancePolicy(
                lifetime_seconds=settings.authority.lifetime_seconds,
                client_keys=frozenset(settings.authority.client_keys),
                crl_subshards=settings.crl.subshards,
                single_use_tokens=settings.oidc.single_use_tokens,
            ),
            status_url=settings.service.status_url,
            clock=clock,
            random_bytes=os.urandom,
            observer=observer,
            admission=_admission(settings, limiter),
            require_newest=_lately(guard.refuse_when_behind),
        ),
        revocations=revocations,
        responder=StatusResponder(
            authorities=authorities.current,
            revocations=revocations,
            policy=StatusPolicy(
                valid_seconds=settings.ocsp.valid_hours * 3600,
                max_age_seconds=settings.ocsp.max_age_seconds,
            ),
            clock=clock,
            observer=observer,
            signer_of=delegates.signer if delegates else None,
            require_keys=publication.check_keys,
        ),
        publication=publication,
        desk=desk,
        administration=administration_of(
            settings,
            issuers.current,
            dev=dev,
            limiter=limiter,
            record=desk.record,
            clock=clock,
            observer=observer,
        ),
        trust=TrustMaterial(
            authorities=authorities.current,
            logs=sharded_log.directory.all,
            current_log=sharded_log.current,
            url=settings.service.url,
            organization=settings.service.organization,
            clock=clock,
        ),
        token_uses=token_uses,
        wake_ups=wake_ups,
        housekeeping=Housekeeping(
            database=database,
            guard=guard,
            authorities=authorities,
            publication=publication,
            log=sharded_log,
            blocks=blocks,
            token_uses=token_uses,
            renew_delegates=lambda: delegates.renew(authorities.current()) if delegates else None,
            wake_ups=wake_ups,
            observer=observer,
        ),
        readiness=Readiness(
            local={"issuing keys": authorities.check},
            database=partial(_answers, database),
            stored={
                "keys in use": publication.check_keys,
                "log": sharded_log.check,
                "high-water mark": guard.check,
            },
            redis=limiter.trouble if isinstance(limiter, RedisRateLimiter) else None,
        ),
        observer=observer,
        delegates=delegates,
        export=_export(settings, sharded_log, observer),
        dev=dev,
    )


def create_app(service: Service, *, only_status: bool = False) -> Flask:
    """Make the Flask application of a service; `only_status` leaves all out but what certificates name."""
    settings = service.settings

    def record(access: AccessRecord) -> None:
        service.observer.answered(
            access.method,
            access.route or "(none)",
            access.status,
            access.milliseconds / 1000,
            access.reason,
        )
        if settings.logging.access:
            record_access(
                method=access.method,
                route=access.route,
                status=access.status,
                milliseconds=access.milliseconds,
                request_id=access.request_id,
                reason=access.reason,
            )

    def report(name: str, error: BaseException) -> None:
        service.observer.count("fault")
        record_fault(name, error)

    quick = [*status.shortcuts(service.responder)]
    if not only_status:
        quick += fulcio.shortcuts(service.issuance, settings.limits.body_bytes)
    app = base_app(
        max_body=settings.limits.body_bytes,
        record=record,
        begin=begin_request,
        report=report,
        shortcuts=quick,
        overload=_overload(service),
    )
    app.register_blueprint(status.blueprint(service.responder, service.publication, service.trust))
    app.register_blueprint(health.blueprint(service.checks, service.extras))
    if only_status:
        return app
    addresses = home.Addresses(
        url=settings.service.url,
        status_url=settings.service.status_url,
        organization=settings.service.organization,
        dev_idp_url=service.dev.issuer_url if service.dev else None,
    )
    for blueprint in (
        fulcio.blueprint(service.issuance, service.trust, service.issuers.current),
        log.blueprint(service.log, service.trust.roots_der()),
        static_log.blueprint(service.log.files),
        trust.blueprint(service.trust, dict),
        admin.blueprint(service.desk, service.administration.gate, service.administration.login),
        home.blueprint(addresses, service.issuers.current, service.trust, service.log, dict),
        openapi.blueprint(openapi.document()),
        *([dev_idp.blueprint(service.dev)] if service.dev else []),
    ):
        app.register_blueprint(blueprint)
    return app


def _overload(service: Service) -> Overload:
    server = service.settings.server
    return Overload(
        places=max(server.threads - server.status_threads, 1),
        patience=server.patience_ms / 1000,
        observer=service.observer,
    )


def _limiter(settings: Settings, observer: PrometheusObserver) -> RateLimiter:
    return RedisRateLimiter(settings.redis.url, observer) if settings.redis.url else MemoryRateLimiter()


def _admission(settings: Settings, limiter: RateLimiter) -> Admission:
    limits = RateLimits(settings.limits.identity_per_minute, settings.limits.issuer_per_minute)
    # The same for every node of this service, and for no other service in the same Redis.
    return Admission(limiter, limits, namespace=settings.service.url)


def _lately(check: Callable[[], object]) -> Callable[[], None]:
    """Ask only when it went well longer than a moment ago; for what is checked again under a lock."""
    lately = Lately(_RECENT_MS / 1000, 10 * _RECENT_MS / 1000)

    def ask() -> None:
        if lately.is_due():
            check()
            lately.went_well()

    return ask


def _answers(database: Database) -> None:
    """Raise StoreUnavailable, within seconds also for a server that hangs; ConfigurationError as `check`."""
    SqlPosition(database).generations()
    database.check()


def _export(settings: Settings, log: ShardedLog, observer: PrometheusObserver) -> LogExport | None:
    folder = settings.log.export_dir
    return None if folder is None else LogExport(log.files, folder, observer)
