"""A JSONPath into claims, of the form issuer files use: `$.federated_claims.connector_id`, `$['a.b'].c`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ca_service.errors import TokenClaimInvalid, TokenClaimMissing

_STEP = re.compile(r"""\.([A-Za-z0-9_-]+)|\['([^'\\]+)'\]|\["([^"\\]+)"\]""")


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """A parsed path: the member names from the top of the claims down."""

    text: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "ClaimPath":
        """Read a path of member names; raises ValueError, with a sentence, for other JSONPaths (RFC 9535)."""
        names: list[str] = []
        position = 1
        if text.startswith("$"):
            while found := _STEP.match(text, position):
                names.append(found.group(1) or found.group(2) or found.group(3))
                position = found.end()
        if not names or position != len(text):
            raise ValueError(
                f"a claim path names members, like $.federated_claims.connector_id, not {text[:80]!r}"
            )
        return cls(text, tuple(names))

    def read(self, claims: Mapping[str, object]) -> str:
        """Return the non-empty string the path leads to; raises TokenClaimMissing or TokenClaimInvalid."""
        value: object = claims
        for name in self.names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None or value == "":
            raise TokenClaimMissing(
                f"the token has no claim at {self.text}, which this issuer's tokens need",
                claim=self.text,
                expected="a string",
                received="no such claim" if value is None else "an empty string",
            )
        if not isinstance(value, str):
            raise TokenClaimInvalid(
                f"the token's claim at {self.text} must be a string",
                claim=self.text,
                expected="a string",
                received="another type",
            )
        return value
