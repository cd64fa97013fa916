"""Nodes behind the shipped nginx are restarted one after the other, and no signer notices."""

import signal
from pathlib import Path

import pytest

from tests.support.processes import RunningService, wait_until
from tests.support.signers import Signers
from tests.support.two_nodes import TWO_NODES, own_place

EMAIL = "ada@example.com"


def signed(node: RunningService) -> int:
    """How many certificates this node gave out, by its log."""
    return node.printed().count('"route": "/api/v2/signingCert", "status": 200')


def start_again(node: RunningService, signers: Signers) -> None:
    """Start a node, and return once nginx has asked it for something."""
    before = signed(node)
    node.start()
    wait_until(lambda: signed(node) > before or signers.failed, 60, "nginx asks it again", pause=0.5)


def test_no_request_is_lost_while_nodes_are_restarted(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with own_place(
        TWO_NODES, tmp_path, postgres=lambda: request.getfixturevalue("postgres_of_the_run")
    ) as own:
        assert own.cluster is not None
        signers = Signers(
            own.service.url, own.cluster.signers, EMAIL, certificates=own.cluster.nginx.certificates
        )
        with signers.asking():
            for node in own.machines:
                assert node.process is not None
                node.process.send_signal(signal.SIGTERM)
                assert node.process.wait(120) == 0
                node.process = None
                signers.wait_for_more()
                start_again(node, signers)
                assert signers.failed == []
        assert (signers.failed, signers.refused) == ([], 0)
        assert sum(map(signed, own.machines)) == signers.good
