"""The tables [[issuer_policy]]: who gets certificates among the identities of one issuer."""

from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from ca_service.settings.section import Section

ClaimValue = StrictStr | StrictBool | StrictInt | StrictFloat


def some(value: object) -> object:
    """Take one value as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


class IssuerPolicySettings(Section):
    """Who gets certificates among the identities of one issuer; write one table for each such issuer."""

    @model_validator(mode="before")
    @classmethod
    def _with_underscores(cls, table: object) -> object:
        """Take members in the issuer file's spelling too, required-claims for required_claims."""
        if not isinstance(table, dict):
            return table
        plain = {name.replace("-", "_"): value for name, value in table.items()}
        # Given in both spellings, the second is left as it is, to be refused by its name.
        return plain if len(plain) == len(table) else table

    issuer: str = Field(
        min_length=1,
        description="The issuer's URL or wildcard, exactly as the issuer file lists it.",
        examples=["https://accounts.example.com"],
    )
    algorithms: tuple[str, ...] = Field(
        default=(),
        description="What its tokens may be signed with; what the issuer file allows when empty.",
        examples=[("RS256", "ES256")],
    )
    required_claims: dict[
        Annotated[str, Field(min_length=1)],
        Annotated[tuple[ClaimValue, ...], BeforeValidator(some), Field(min_length=1)],
    ] = Field(
        default_factory=dict,
        description="Claims that its tokens must have, each with its value or a list of allowed values. Of a "
        "claim that is a list itself, one must be allowed. A name such as $['kubernetes.io'].namespace is a "
        "path.",
        examples=[{"hd": "example.com", "groups": ("signers", "release")}],
    )
    allowed_email_domains: tuple[str, ...] = Field(
        default=(),
        description="The domains that e-mail addresses must be of, exactly; any when empty. For issuers of "
        "type email.",
        examples=[("example.com",)],
    )
    strict_audience: bool = Field(
        default=False, description="Whether a token that is for others too is refused."
    )

    def __str__(self) -> str:
        """Name it as `ca-service doctor` does."""
        return self.issuer
