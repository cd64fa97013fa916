"""The playbook for a compromise, followed to the letter: every shell block of it runs, in its order."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import TWO_NODES
from tests.support.cluster import Cluster
from tests.support.processes import CA_SERVICE, RunningService, environment, wait_until
from tests.support.signing import Issued, bearer, issue, key_body, new_key
from tests.support.tokens import Tokens

PLAYBOOK = Path(__file__).resolve().parents[2] / "docs/how-to/respond-to-a-compromise.md"
WHO, BYSTANDER = "ada@example.com", "grace@example.com"
_ASSIGNMENT = re.compile(r"^([A-Z]+)=(.*)$", re.MULTILINE)


def sections() -> dict[str, list[str]]:
    """The shell blocks under each heading."""
    text = PLAYBOOK.read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    return {
        title: re.findall(r"^```sh\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


class Shell:
    """A terminal in a folder: what one block assigns, the next ones know; `given` replaces examples."""

    def __init__(self, folder: Path, given: dict[str, str]) -> None:
        self.folder = folder
        self.given = given
        self.assigned: list[str] = []
        self.ran = 0

    def run(self, block: str) -> str:
        script = _ASSIGNMENT.sub(lambda found: f"{found[1]}={self.given.get(found[1], found[2])}", block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join([*self.assigned, script])],
            cwd=self.folder,
            env={**environment(), "PATH": f"{CA_SERVICE.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        self.assigned += [found[0] for found in _ASSIGNMENT.finditer(script)]
        self.ran += 1
        return done.stdout


@pytest.fixture
def provider(place: str, service: RunningService, request: pytest.FixtureRequest) -> Iterator[str]:
    """Who vouches for the signers; the playbook ends with a block of all of them."""
    cluster: Cluster | None = request.getfixturevalue("cluster") if place == TWO_NODES else None
    issuer = cluster.signers.url if cluster else f"{service.url}/dev-idp"
    yield issuer
    service.cli("unblock", "--issuer", issuer, "--comment", "the test is over")


def test_the_playbook_does_what_it_says(
    service: RunningService, tokens: Tokens, provider: str, session: requests.Session, tmp_path: Path
) -> None:
    own = service

    def got(email: str) -> Issued:
        return issue(session, own.url, tokens.token(email), email)

    def refused() -> bool:
        reply = session.post(
            f"{own.url}/api/v2/signingCert",
            json=key_body(new_key(), WHO),
            headers=bearer(tokens.token(WHO)),
            timeout=60,
        )
        assert reply.status_code == 200 or "identity-blocked" in reply.text, reply.text
        return reply.status_code != 200

    mine, stolen = got(WHO), []
    # What is valid at the moment of the theft is taken back too, unless it was taken to be before it.
    since = datetime.now(UTC).replace(microsecond=0)
    wait_until(lambda: datetime.now(UTC).timestamp() >= since.timestamp() + 1, 60, "the next second")
    stolen = [got(WHO) for _ in range(3)]
    other = got(BYSTANDER)
    blocks = sections()
    shell = Shell(
        tmp_path,
        {
            "CONFIG": str(own.config),
            "SINCE": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "PROVIDER": provider,
        },
    )
    for block in blocks["An account"]:
        shell.run(block)
    (stop,) = blocks["1. Stop it"]
    shell.run(stop)
    assert refused()
    found = "".join(shell.run(block) for block in blocks["2. Find"])
    assert all(each.serial in found for each in stolen)
    assert other.serial not in found
    (preview,) = blocks["3. Preview"]
    assert "4" in shell.run(preview)
    assert json.loads(own.cli("status", stolen[0].serial, "--json").stdout)["status"] == "good"
    (revoke,) = blocks["4. Revoke"]
    shell.run(revoke)
    verified = "".join(shell.run(block) for block in blocks["5. Verify"])
    assert "revoked (keyCompromise)" in verified
    for each in (*stolen, mine):
        assert json.loads(own.cli("status", each.serial, "--json").stdout)["status"] == "revoked"
    assert json.loads(own.cli("status", other.serial, "--json").stdout)["status"] == "good"
    told = "".join(shell.run(block) for block in blocks["6. Tell"])
    assert all(each.serial in told for each in stolen)
    assert refused()
    for block in blocks["7. Afterwards"]:
        shell.run(block)
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) >= 3
    assert not refused()

    (withdraw,) = blocks["If it was the wrong one"]
    shell.run(withdraw)
    (one,) = blocks["One certificate"]
    shell.run(one)
    (all_of_it,) = blocks["A provider"]
    shell.run(all_of_it)
    assert refused(), "by a block of the whole provider"
    assert shell.ran == sum(map(len, blocks.values())), "there is no block that was not followed"
