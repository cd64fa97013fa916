"""Nodes behind the shipped nginx are restarted one after the other, and no signer notices."""

import signal
from dataclasses import dataclass
from pathlib import Path

from tests.support.issuer import LocalIssuer
from tests.support.nginx import configured, serving
from tests.support.processes import RunningService, free_port, production_service, running, wait_until
from tests.support.signers import Signers

EMAIL = "ada@example.com"


@dataclass
class Node(RunningService):
    """One of several on the same directory."""

    name: str = ""

    @property
    def output(self) -> Path:
        return self.directory.with_name(f"{self.name}-output.log")


def signed(node: RunningService) -> int:
    """How many certificates this node gave out, by its log."""
    return node.output.read_text().count('"route": "/api/v2/signingCert", "status": 200')


def start_again(node: RunningService, signers: Signers) -> None:
    """Start a node, and return once nginx has asked it for something."""
    before = signed(node)
    node.start()
    wait_until(lambda: signed(node) > before or signers.failed, 60, "nginx asks it again", pause=0.5)


def test_no_request_is_lost_while_nodes_are_restarted(tmp_path: Path) -> None:
    binds = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    nginx = configured(tmp_path / "nginx", binds, requests_a_second=100_000)
    with LocalIssuer() as issuer:
        made = production_service(
            tmp_path / "ca",
            issuers=issuer.issuer_file(),
            workers=1,
            init_options=["--url", nginx.url, "--status-url", nginx.status_url],
            environ={"CASVC_SERVER__TRUSTED_PROXIES": "127.0.0.0/8"},
        )
        nodes = []
        for name, bind in zip("ab", binds, strict=True):
            command = [*made.command]
            command[command.index("--bind") + 1] = bind
            nodes.append(Node(made.directory, f"http://{bind}", command, made.environ, name=name))
        signers = Signers(nginx.url, issuer, EMAIL, certificates=nginx.certificates)
        with running(nodes[0]), running(nodes[1]), serving(nginx), signers.asking():
            for node in nodes:
                assert node.process is not None
                node.process.send_signal(signal.SIGTERM)
                assert node.process.wait(120) == 0
                node.process = None
                signers.wait_for_more()
                start_again(node, signers)
                assert signers.failed == []
        assert (signers.failed, signers.refused) == ([], 0)
        assert sum(map(signed, nodes)) == signers.good
