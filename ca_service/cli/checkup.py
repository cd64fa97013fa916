"""What `doctor` looks at: each check is a few facts and a verdict, and one that fails stops no other."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

from ca_service.app import material
from ca_service.app.administration import read_administrators
from ca_service.app.authorities import read_authorities
from ca_service.app.issuers import read_issuers
from ca_service.app.ocsp_delegates import OcspDelegates
from ca_service.authority.authorities import Authorities
from ca_service.cache.redis_server import RedisRateLimiter
from ca_service.cache.redis_wake_ups import RedisWakeUps
from ca_service.cache.wake_ups import wake_ups_of
from ca_service.cli.database_checkup import high_water_mark, stored
from ca_service.cli.findings import FAILED, GOOD, WARNING, Finding
from ca_service.cli.host import Unobserved, clock
from ca_service.cli.serve import refuse_open_http
from ca_service.cli.status_checkup import delegate, root_crl
from ca_service.errors import CAError, ConfigurationError
from ca_service.identity.issuers import Issuer
from ca_service.oidc.discovery import fetch_keys
from ca_service.outbound.client import OutboundClient
from ca_service.settings import Settings
from ca_service.vocabulary import format_time

_SOON_ISSUES = timedelta(days=90)


def examine(settings: Settings, *, ask_issuers: bool) -> Iterator[Finding]:
    """Look at everything that `serve` needs; `ask_issuers` also asks each identity provider for its keys."""
    now = datetime.now(UTC)
    yield from _guarded("address", lambda: _address(settings))
    secret, authorities, keys = None, None, None
    try:
        secret = material.passphrase(settings)
        authorities = read_authorities(settings, secret)
    except ConfigurationError as error:
        yield Finding("issuing key and certificate", FAILED, error.message)
    if authorities is not None:
        issuing = authorities.issuing(int(now.timestamp()))
        yield from _authorities(authorities, now)
        yield from _guarded("root CRL", lambda: root_crl(settings, issuing, now))
        if settings.ocsp.signer == "delegated":
            delegates = OcspDelegates(settings.ocsp.delegates_dir, secret, clock)
            yield from _guarded("OCSP responder", lambda: delegate(delegates, issuing, now))
        keys = material.LogKeys(settings, issuing, secret)
    yield from _root_key(settings)
    yield from stored(settings, keys, authorities)
    yield from _guarded("high-water mark", lambda: high_water_mark(settings))
    yield from _guarded("redis", lambda: _redis(settings))
    yield from _guarded("issuers", lambda: _issuers(settings, ask=ask_issuers))
    yield from _guarded("administrators", lambda: _administrators(settings, ask=ask_issuers))


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except CAError as error:
        yield Finding(check, FAILED, error.message)


def _address(settings: Settings) -> Iterator[Finding]:
    refuse_open_http(settings)
    yield Finding("address", GOOD, f"{settings.service.url}, listening on {settings.server.bind}")
    if not settings.service.url.startswith("https:") and not settings.service.url.startswith(
        ("http://127.", "http://localhost", "http://[::1]")
    ):
        yield Finding("address", WARNING, "[service] url is plain http: tokens travel in the clear")


def _authorities(authorities: Authorities, now: datetime) -> Iterator[Finding]:
    seconds = int(now.timestamp())
    issuing, following = authorities.issuing(seconds), authorities.following(seconds)
    covered = bool(following) and following[0].certificate.not_valid_before_utc <= issuing.issues_until
    until = format_time(issuing.issues_until)
    if now >= issuing.issues_until:
        verdict, said = FAILED, f"issued until {until}; a new one is needed: `ca-service rotate authority`"
    elif now >= issuing.issues_until - _SOON_ISSUES and not covered:
        verdict, said = WARNING, f"issues until {until}; prepare the next one: `ca-service rotate authority`"
    else:
        verdict, said = GOOD, f"fits its key and chain, issues until {until}"
    yield Finding("issuing certificate", verdict, f"{issuing.key_id}: {said}")
    for authority in authorities:
        starts = format_time(authority.certificate.not_valid_before_utc)
        if authority in following:
            yield Finding("issuing certificate", GOOD, f"{authority.key_id}: prepared, issues from {starts}")
        elif authority is not issuing:
            told = f"{authority.key_id}: since {starts}, issues no more; signs CRLs and OCSP answers until"
            yield Finding("earlier authority", GOOD, f"{told} {format_time(authority.not_after)}")


def _root_key(settings: Settings) -> Iterator[Finding]:
    root_key = settings.folder / "offline" / "root.key"
    if root_key.exists():
        yield Finding("root key", WARNING, f"{root_key} is on this machine; keep it on a medium of its own")


def _redis(settings: Settings) -> Iterator[Finding]:
    if not settings.redis.url:
        return
    with closing(RedisRateLimiter(settings.redis.url, Unobserved())) as limiter:
        trouble = limiter.trouble()
    # The service runs without it.
    if trouble is None:
        yield Finding("redis", GOOD, "counts requests for rate limits")
    else:
        yield Finding("redis", WARNING, f"rate limits are not held, since it does not count: {trouble}")
    wake_ups = wake_ups_of(settings.redis.url, settings.service.url, Unobserved())
    with closing(wake_ups):
        deaf = wake_ups.trouble() if isinstance(wake_ups, RedisWakeUps) else None
    if deaf is None:
        yield Finding("redis", GOOD, "carries wake-ups between processes and nodes")
    else:
        yield Finding("redis", WARNING, f"changes are found a second later, since it wakes nobody: {deaf}")


def _issuers(settings: Settings, *, ask: bool) -> Iterator[Finding]:
    directory = read_issuers(settings)
    if not directory.issuers and not directory.wildcards:
        yield Finding("issuers", WARNING, f"{settings.issuers} names none yet: nobody gets a certificate")
    for remark in directory.remarks:
        yield Finding("issuers", WARNING, remark)
    client = OutboundClient(settings.oidc.private_networks)
    for issuer in directory.issuers:
        if ask:
            yield from _asked(issuer, client)
        else:
            yield Finding(f"issuer {issuer.issuer_url}", GOOD, f"{_rules(issuer)}; not asked")
    for issuer in directory.wildcards:
        yield Finding(
            f"issuers {issuer.issuer_url}",
            GOOD,
            f"{_rules(issuer)}; a pattern, each * for letters, digits, - and _, so there is nobody to ask",
        )


def _administrators(settings: Settings, *, ask: bool) -> Iterator[Finding]:
    signing = read_issuers(settings)
    rules, issuers = read_administrators(settings, lambda: signing)
    if not rules:
        yield Finding("administrators", GOOD, "none over the network: there is no [[admin_role]]")
    client = OutboundClient(settings.oidc.private_networks)
    for issuer in issuers.current().issuers:
        roles = sorted({rule.role for rule in rules if rule.issuer == issuer.issuer_url})
        labels = " and ".join(role.label for role in roles)
        about = f"{labels}, audience {issuer.client_id} alone"
        yield Finding(f"administrators of {issuer.issuer_url}", GOOD, about)
        if ask and signing.find(issuer.issuer_url) is None:  # the others were asked above
            yield from _asked(issuer, client)


def _asked(issuer: Issuer, client: OutboundClient) -> Iterator[Finding]:
    name = f"issuer {issuer.issuer_url}"
    try:
        found = fetch_keys(issuer, issuer.issuer_url, client.get, retry_after=0)
    except CAError as error:
        yield Finding(name, FAILED, error.message)
        return
    keys = [key for keys in found.keys.values() for key in keys]
    fitting = [key for key in keys if key.algorithms.intersection(issuer.algorithms)]
    usable = set().union(*(key.algorithms for key in fitting)).intersection(issuer.algorithms)
    algorithms = ", ".join(name for name in issuer.algorithms if name in usable)
    if not fitting:
        yield Finding(
            name,
            FAILED,
            f"answers, but publishes no key that its tokens could be verified with: {len(keys)} usable keys,"
            f" none for {', '.join(issuer.algorithms)}",
        )
    else:
        yield Finding(
            name,
            GOOD,
            f"{_rules(issuer)}; its discovery document names it, and it publishes {len(fitting)} usable"
            f" {'key' if len(fitting) == 1 else 'keys'} for {algorithms}",
        )
    for why in found.refused.values():
        yield Finding(name, WARNING, f"one of its keys is not used: {why}")


def _rules(issuer: Issuer) -> str:
    """What is asked of the issuer's tokens, in a few words."""
    rules = [f"type {issuer.type}, audience {issuer.client_id}{' alone' if issuer.strict_audience else ''}"]
    if issuer.rules.required:
        rules.append(f"required claims {', '.join(issuer.rules.required)}")
    if issuer.rules.email_domains:
        rules.append(f"addresses of {', '.join(sorted(issuer.rules.email_domains))}")
    return ", ".join(rules)
