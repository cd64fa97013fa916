"""Identity tokens of the development identity provider, got as a developer gets them."""

from pathlib import Path

from tests.support.processes import RunningService, succeed


class TokenDesk:
    """Mints tokens with `ca-service dev-token`; one per identity is kept, the command takes half a second."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self._kept: dict[str, str] = {}

    def mint(self, email: str, *options: str) -> str:
        """A fresh token, with whatever options of the command."""
        directory: Path = self.service.directory
        return succeed("dev-token", "--dir", directory, "--email", email, *options).strip()

    def token(self, email: str) -> str:
        """A token for this verified address, minted once per run."""
        if email not in self._kept:
            self._kept[email] = self.mint(email)
        return self._kept[email]
