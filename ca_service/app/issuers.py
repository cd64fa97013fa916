"""The issuers in force: read from the issuer file, under the policies of the settings."""

import logging

from ca_service.app.material import content_of
from ca_service.errors import ConfigurationError
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import Issuer, IssuerDirectory
from ca_service.identity.policies import IssuerPolicy, restrict
from ca_service.settings import Settings

_DEV_PATH = "/dev-idp"

_log = logging.getLogger("ca_service.issuers")


def read_issuers(settings: Settings, development: Issuer | None = None) -> IssuerDirectory:
    """Read the issuer file and put its issuers under the policies of the settings.

    `development` is the identity provider of `ca-service dev`, which is in no file. Raises
    ConfigurationError naming file, issuer and member, also for a file that names such a provider.
    """
    try:
        text = content_of(settings.issuers, "issuers").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"issuers: {settings.issuers} is not UTF-8 text: {error}") from error
    directory = parse_issuer_file(text, str(settings.issuers))
    if development is None:
        _refuse_development_issuers(settings, directory)
    else:
        directory = directory.with_issuer(development)
    _refuse_shared_audience(settings, directory)
    policies = [
        IssuerPolicy(
            issuer=written.issuer,
            algorithms=written.algorithms,
            required_claims=written.required_claims,
            allowed_email_domains=written.allowed_email_domains,
            strict_audience=written.strict_audience,
        )
        for written in settings.issuer_policy
    ]
    try:
        return restrict(directory, policies)
    except ValueError as problem:
        raise ConfigurationError(
            f"[[issuer_policy]] in {settings.origin.file}: {problem} (issuer file {settings.issuers})"
        ) from None


class IssuersInForce:
    """The directory in force: whole, never half read, and replaced only by one that was found right."""

    def __init__(self, settings: Settings, development: Issuer | None = None) -> None:
        """Read the file for the first time; raises ConfigurationError as read_issuers does."""
        self._settings = settings
        self._development = development
        self._directory = read_issuers(settings, development)

    def current(self) -> IssuerDirectory:
        """Return the directory in force now."""
        return self._directory

    def reload(self) -> bool:
        """Read the file again and put it in force; when it is wrong, log why, keep the old and return False.

        Never raises: it is called in the process whose end would end the service.
        """
        try:
            read = read_issuers(self._settings, self._development)
        except ConfigurationError as error:
            _log.error("the new issuer file is refused and the old issuers stay in force: %s", error.message)
            return False
        except Exception:  # noqa: BLE001 -- a fault of ours here must not end a service that runs well
            _log.exception("the new issuer file could not be read, and the old issuers stay in force")
            return False
        self._directory = read
        for remark in read.remarks:
            _log.warning("%s", remark)
        _log.info(
            "the issuer file is in force: %d issuers and %d wildcards of %s",
            len(read.issuers),
            len(read.wildcards),
            self._settings.issuers,
        )
        return True


def _refuse_development_issuers(settings: Settings, directory: IssuerDirectory) -> None:
    """Anybody can get any identity from it; only `ca-service dev` adds it, in memory and on loopback."""
    for issuer in (*directory.issuers, *directory.wildcards):
        if is_development_issuer(issuer.issuer_url):
            raise ConfigurationError(
                f"issuers: {settings.issuers} names {issuer.issuer_url}, a development identity provider that"
                " gives any identity to anybody; remove it, or use `ca-service dev`"
            )


def is_development_issuer(issuer_url: str) -> bool:
    """Say whether a URL is where `ca-service dev` serves its identity provider."""
    return issuer_url.rstrip("/").endswith(_DEV_PATH)


def _refuse_shared_audience(settings: Settings, directory: IssuerDirectory) -> None:
    """A token that gets certificates must not administer, and the other way round."""
    for issuer in (*directory.issuers, *directory.wildcards):
        if issuer.client_id == settings.admin.audience:
            raise ConfigurationError(
                f"issuers: {settings.issuers}: client-id of {issuer.issuer_url} is {issuer.client_id}, the"
                " audience of administrators ([admin] audience); expected two different ones"
            )
