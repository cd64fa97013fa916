"""Time stands still here: a wait lasts until the test ends it, however slow the machine is."""

import pytest

from ca_service.oidc import discovery, key_cache


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread gives up a fetch because the machine was busy with something else."""
    for module in (discovery, key_cache):
        monkeypatch.setattr(module, "FETCH_SECONDS", 120.0)
