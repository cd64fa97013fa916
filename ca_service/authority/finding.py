"""What an inspection says: one fact that does not hold, in one sentence with all that is needed to look."""

from dataclasses import asdict, dataclass

_SHOWN_OCTETS = 40


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact that does not hold: `where` it is, what was `expected` there and what was `found`.

    `rule` is a stable slug for programs. Nothing in it names a person.
    """

    rule: str
    where: str
    expected: str
    found: str

    @property
    def sentence(self) -> str:
        """The finding for people."""
        return f"{self.where}: expected {self.expected}, found {self.found}"

    def members(self) -> dict[str, str]:
        """The finding for programs."""
        return {**asdict(self), "message": self.sentence}


def shown(octets: bytes) -> str:
    """Octets as hex, cut after forty."""
    return octets[:_SHOWN_OCTETS].hex() + ("…" if len(octets) > _SHOWN_OCTETS else "")
