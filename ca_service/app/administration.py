"""Administration over the network, joined: whose tokens count, and which rules give them a role."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ca_service.app.issuers import is_development_issuer
from ca_service.app.material import content_of
from ca_service.authority.administrators import Role, RoleRule, TokenRules
from ca_service.authority.gate import Gate, GateLimits
from ca_service.authority.ports import Actor, Clock, Observer, RateLimiter
from ca_service.cache.memory import MemoryRateLimiter
from ca_service.errors import ConfigurationError
from ca_service.identity.issuer_rules import check_issuer
from ca_service.identity.issuers import DEFAULT_ALGORITHMS, Issuer, IssuerDirectory, IssuerType
from ca_service.oidc.verifier import TokenVerifier
from ca_service.outbound.client import OutboundClient
from ca_service.settings import Settings
from ca_service.settings.forms import is_loopback
from ca_service.web.admin import LoginOptions
from ca_service.web.dev_idp import DevIdentityProvider

DEV_ADMINISTRATOR = "admin@example.com"
"""Who has every role in development; no settings file says so, and `serve` knows nothing of it."""

_log = logging.getLogger("ca_service.administration")


class AdministratorIssuers:
    """The issuers of administrators: those that rules name, with what the issuer file knows of them."""

    def __init__(
        self, settings: Settings, rules: tuple[RoleRule, ...], signing: Callable[[], IssuerDirectory]
    ) -> None:
        """Take the rules and the directory for certificates; raises ConfigurationError for a wrong issuer."""
        self._audience = settings.admin.audience
        self._urls = tuple(dict.fromkeys(rule.issuer for rule in rules))
        self._signing = signing
        file = settings.admin.ca_certificates
        self._ca_cert = (
            None if file is None else content_of(file, "admin.ca_certificates").decode("ascii", "replace")
        )
        self._known: tuple[IssuerDirectory, IssuerDirectory] | None = None
        for issuer in self.current().issuers:
            try:
                check_issuer(issuer)
                _refuse_open_http(issuer)
            except ValueError as problem:
                raise ConfigurationError(
                    f"[[admin_role]] in {settings.origin.file}: issuer {issuer.issuer_url}: {problem}"
                ) from None

    def current(self) -> IssuerDirectory:
        """The directory in force now; it follows the issuer file when that is read again."""
        signing = self._signing()
        if self._known is None or self._known[0] is not signing:
            directory = IssuerDirectory(tuple(self._issuer(url, signing.find(url)) for url in self._urls))
            self._known = (signing, directory)
        return self._known[1]

    def _issuer(self, url: str, listed: Issuer | None) -> Issuer:
        return Issuer(
            issuer_url=url,
            client_id=self._audience,
            type=IssuerType.EMAIL,
            algorithms=listed.algorithms if listed else DEFAULT_ALGORITHMS,
            ca_cert=listed.ca_cert if listed else self._ca_cert,
            strict_audience=True,
        )


def _refuse_open_http(issuer: Issuer) -> None:
    """Whoever is on the way to a provider in plain http could make themselves an administrator."""
    parts = urlsplit(issuer.issuer_url)
    if parts.scheme != "https" and not is_loopback(f"{parts.hostname}:0"):
        raise ValueError("issuer-url must be https, since administrators' keys come from there")


@dataclass(frozen=True)
class Administration:
    """What the web application needs: the gate, and where a login may start."""

    gate: Gate
    login: LoginOptions


def administration_of(
    settings: Settings,
    signing: Callable[[], IssuerDirectory],
    *,
    dev: DevIdentityProvider | None,
    limiter: RateLimiter,
    record: Callable[[Actor, str, Mapping[str, object]], object],
    clock: Clock,
    observer: Observer,
) -> Administration:
    """Join the gate as the settings say; raises ConfigurationError naming the [[admin_role]] at fault."""
    rules, issuers = read_administrators(settings, signing, dev)
    client_id = settings.admin.client_id or settings.admin.audience
    if rules:
        _log.info("administration over the network is open to %d rules of [[admin_role]]", len(rules))
    else:
        _log.info("administration over the network is closed: there is no [[admin_role]]")
    # A verifier of its own: its directory demands another audience, and refuses any other beside it.
    tokens = TokenVerifier(
        issuers.current,
        OutboundClient(settings.oidc.private_networks).get,
        clock,
        built_in_keys={dev.issuer_url: dev.jwks()} if dev else {},
        stale_seconds=settings.oidc.stale_keys_hours * 3600,
        observer=observer,
    )
    gate = Gate(
        verify_token=tokens.verify,
        rules=rules,
        demanded=TokenRules(settings.admin.audience, client_id, settings.admin.max_token_age_seconds),
        limits=GateLimits(settings.admin.requests_per_minute, settings.admin.failures_per_minute),
        limiter=limiter,
        own_limiter=MemoryRateLimiter(),
        namespace=settings.service.url,
        record=record,
        clock=clock,
        observer=observer,
    )
    login = LoginOptions(
        audience=settings.admin.audience,
        client_id=client_id,
        scopes=settings.admin.scopes,
        issuers=tuple(issuer.issuer_url for issuer in issuers.current().issuers),
    )
    return Administration(gate, login)


def read_administrators(
    settings: Settings, signing: Callable[[], IssuerDirectory], dev: DevIdentityProvider | None = None
) -> tuple[tuple[RoleRule, ...], AdministratorIssuers]:
    """Read who administers and whom they come from; raises ConfigurationError naming the [[admin_role]]."""
    rules = _rules(settings, dev)
    return rules, AdministratorIssuers(settings, rules, signing)


def _rules(settings: Settings, dev: DevIdentityProvider | None) -> tuple[RoleRule, ...]:
    rules = []
    for number, written in enumerate(settings.admin_role, 1):
        if is_development_issuer(written.issuer):
            raise ConfigurationError(
                f"[[admin_role]] number {number} in {settings.origin.file} names {written.issuer}, a"
                " development identity provider that gives any identity to anybody; remove it, or use"
                " `ca-service dev`"
            )
        try:
            rules.append(RoleRule.read(written.role, written.issuer, written.claims))
        except ValueError as problem:
            raise ConfigurationError(
                f"[[admin_role]] number {number} in {settings.origin.file}: {problem}"
            ) from None
    if dev is not None:
        rules.append(RoleRule.read(Role.ADMINISTRATOR.label, dev.issuer_url, {"email": (DEV_ADMINISTRATOR,)}))
    return tuple(rules)
