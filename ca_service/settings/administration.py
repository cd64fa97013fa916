"""Administration over the network: the table [admin], and the tables [[admin_role]] that open it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ca_service.settings import forms
from ca_service.settings.issuer_policy import ClaimValue, some
from ca_service.settings.section import Section


class AdminSettings(Section):
    """Administration over the network: /admin/v1, and `--server` of the command line.

    It refuses everybody until a table admin_role says who may do what.
    """

    audience: Annotated[str, AfterValidator(forms.admin_audience)] = Field(
        default="ca-service-admin",
        min_length=1,
        max_length=255,
        description="What `aud` of an administrator's token must be, and nothing beside it; never what "
        "tokens for certificates have, so that neither passes for the other.",
    )
    client_id: str = Field(
        default="",
        max_length=255,
        description="The public client (no secret, PKCE, redirects to http://127.0.0.1 on any port) by which "
        "`ca-service login` asks the identity provider; the audience when empty.",
    )
    scopes: Annotated[tuple[str, ...], AfterValidator(forms.login_scopes)] = Field(
        default=("openid", "email"),
        description="What `ca-service login` asks for; some providers give groups for a scope of their own.",
    )
    max_token_age_seconds: int = Field(
        default=3600,
        ge=60,
        le=86400,
        description="How old a token may be by its `iat`, however long the identity provider lets it live.",
    )
    requests_per_minute: int = Field(
        default=600, ge=0, le=1_000_000, description="How often one administrator may call; 0: any number."
    )
    failures_per_minute: int = Field(
        default=60,
        ge=1,
        le=1_000_000,
        description="How many calls without a good token one address may make before it is told to wait.",
    )
    ca_certificates: Annotated[Path | None, BeforeValidator(forms.path_or_none)] = Field(
        default=None,
        description="A PEM file of certificates to trust, beside the usual ones, at identity providers that "
        "the issuer file does not list; none when absent.",
    )


class AdminRoleSettings(Section):
    """Who administers over the network: the accounts of one identity provider with these claims.

    A viewer reads; a revoker also revokes and blocks; an administrator also unblocks and withdraws
    revocations.
    """

    role: Literal["viewer", "revoker", "administrator"] = Field(
        description="What they may do.", examples=["revoker"]
    )
    issuer: str = Field(
        min_length=1,
        description="Their identity provider's URL, exactly as `iss` has it; the issuer file may lack it.",
        examples=["https://accounts.example.com"],
    )
    claims: dict[
        Annotated[str, Field(min_length=1)],
        Annotated[tuple[ClaimValue, ...], BeforeValidator(some), Field(min_length=1)],
    ] = Field(
        min_length=1,
        description="Claims that their tokens have, each with its value or a list of allowed values; all "
        "must fit. Of a claim that is a list itself, such as groups, one is enough. `email` counts only with "
        "email_verified. A name such as $.realm_access.roles is a path.",
        examples=[{"groups": "ca-revokers"}],
    )

    def __str__(self) -> str:
        """Name it as `ca-service doctor` does."""
        return f"{self.role} of {self.issuer}"
