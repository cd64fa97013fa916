"""From a revocation's return until every worker answers it."""

import http.client
import random
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cryptography.x509 import ocsp

from ca_service.authority.status_ports import IssuedCertificate
from ca_service.vocabulary import format_serial
from scripts.benchmark.asking import ocsp_path
from scripts.benchmark.plan import Goal, Row, middle
from tests.support.entries import Foundation
from tests.support.processes import RunningService

_CONNECTIONS = 200
_TURNS = 5
_GOAL = Goal(1000.0, 250.0)


@dataclass(frozen=True)
class _Answer:
    status: ocsp.OCSPCertStatus
    after: float
    """Seconds since the revocation had returned."""


def visibility(
    served: RunningService, foundation: Foundation, certificates: Sequence[IssuedCertificate]
) -> list[Row]:
    """Ask over many fresh connections at once as soon as a revocation has returned, until all know of it."""
    old, first, last = 0, [], []
    chosen = random.sample(list(certificates), min(_TURNS, len(certificates)))
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for certificate in chosen:
            path = ocsp_path(foundation.authority, certificate)
            _ask_together(pool, served, path, 0.0)  # now every worker has it in its cache as good
            served.admin("revoke", "certificate", format_serial(certificate.serial))
            returned = time.perf_counter()
            told: list[float] = []
            while True:
                answers = _ask_together(pool, served, path, returned)
                revoked = [each for each in answers if each.status is ocsp.OCSPCertStatus.REVOKED]
                told += [each.after * 1000 for each in revoked]
                old += len(answers) - len(revoked)
                if len(revoked) == len(answers):
                    break
            first.append(min(told))
            last.append(max(told))
    return [
        middle(
            "revocation → all of 200 connections know",
            last,
            "ms",
            goal=_GOAL,
            note=f"opened at once when it had returned, {len(chosen)} times; "
            f"the first knows after {statistics.median(first):.0f} ms; {old} answers were old",
            facts={"old_answers": float(old), "first_ms": statistics.median(first)},
        )
    ]


def _ask_together(pool: ThreadPoolExecutor, served: RunningService, path: str, since: float) -> list[_Answer]:
    together = threading.Barrier(_CONNECTIONS)

    def ask(_: int) -> _Answer:
        connection = http.client.HTTPConnection(served.bind, timeout=60)
        together.wait(60)
        connection.request("GET", path)
        content = connection.getresponse().read()
        connection.close()
        after = time.perf_counter() - since
        return _Answer(ocsp.load_der_ocsp_response(content).certificate_status, after)

    return list(pool.map(ask, range(_CONNECTIONS)))
