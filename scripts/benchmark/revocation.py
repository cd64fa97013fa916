"""Revocation: lists against openssl's, answers, and the time until every worker has one, at two sizes."""

import base64
import http.client
import os
import random
import secrets
import statistics
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from ca_service.app import build_service
from ca_service.authority.ports import Actor, IssuedCertificate, Revocation, Selector
from ca_service.pki.crl import Entry, build_crl
from ca_service.settings import load_settings
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.revocations import SqlRevocations
from ca_service.vocabulary import RevocationReason, Serial, format_serial
from scripts.benchmark.plan import Plan, Result, Row
from scripts.benchmark.population import populate
from scripts.benchmark.server import empty_view, load, request_bytes, warmed
from tests.support.entries import Foundation, machine_clock
from tests.support.processes import CA_SERVICE, RunningService, free_port, running

SIZES = (100, 1_000_000)
LISTS = (1_000, 100_000, 1_000_000)
_CONNECTIONS = 200
_TURNS = 5
_MOST_QUESTIONS = 20_000
_ACTOR = Actor("local:bench", "localhost", "bench")


def revocation(plan: Plan, sizes: Sequence[int] = SIZES, lists: Sequence[int] = LISTS) -> Iterator[Result]:
    """One result for lists of each length, then one for each number of issued certificates, 1 % revoked."""
    yield _lists(plan.folder / "lists", lists)
    for size in sizes:
        yield _service(plan, plan.folder / f"issued-{size}", size)


# -- lists -----------------------------------------------------------------------------------------------


def _lists(folder: Path, lengths: Sequence[int]) -> Result:
    populate(folder, 1)
    authority = Foundation(folder).authority
    now = datetime.now(UTC).replace(microsecond=0)
    rows = []
    for length in lengths:
        began = int(now.timestamp()) - 86_400 * 300
        entries = [
            Entry(Serial(int.from_bytes(secrets.token_bytes(19)) | 1), began + place % 20_000_000, 1)
            for place in range(length)
        ]

        def ours(revoked: Sequence[Entry] = entries) -> None:
            build_crl(
                authority,
                revoked,
                number=7,
                this_update=now,
                next_update=now + timedelta(days=7),
                url="http://127.0.0.1:5555/crl/bench.crl",
                expired_since=now,
            )

        mine = min(_timed(ours) for _ in range(3))
        theirs = _openssl(folder / f"openssl-{length}", entries)
        rows.append(Row(f"{length:,} entries", mine * 1000, "ms", theirs / mine))
        rows.append(Row(f"{length:,}: openssl ca -gencrl", theirs * 1000, "ms", 1.0))
    return Result("CRL of one shard, built and signed; ratio: how many times faster than openssl", rows)


def _openssl(folder: Path, entries: Sequence[Entry]) -> float:
    """Seconds that `openssl ca -gencrl` takes for the same entries, its start and its index included."""
    folder.mkdir(parents=True)
    with (folder / "index.txt").open("w") as index:
        for entry in entries:
            when = datetime.fromtimestamp(entry.revocation_date, UTC)
            ends = (when + timedelta(minutes=10)).strftime("%y%m%d%H%M%SZ")
            reason = f"{when:%y%m%d%H%M%SZ},keyTime,{when:%Y%m%d%H%M%SZ}"
            index.write(f"R\t{ends}\t{reason}\t{format_serial(entry.serial).upper()}\tunknown\t/CN=x\n")
    (folder / "index.txt.attr").write_text("unique_subject = no\n")
    (folder / "crlnumber").write_text("01\n")
    (folder / "openssl.cnf").write_text(
        f"[ca]\ndefault_ca=it\n[it]\ndatabase={folder}/index.txt\ncrlnumber={folder}/crlnumber\n"
        f"certificate={folder}/ca.pem\nprivate_key={folder}/ca.key\ndefault_md=sha256\ndefault_crl_days=7\n"
        "crl_extensions=ext\n[ext]\nauthorityKeyIdentifier=keyid\n"
    )
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    out = ["-subj", "/CN=bench", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem"]
    subprocess.run(["openssl", *made, *out], check=True, capture_output=True)
    order = ["ca", "-gencrl", "-config", f"{folder}/openssl.cnf", "-out", f"{folder}/crl.pem"]
    return _timed(lambda: subprocess.run(["openssl", *order], check=True, capture_output=True))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# -- a service with many certificates ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    status: ocsp.OCSPCertStatus
    after: float
    """Seconds since the revocation had returned."""


def _service(plan: Plan, folder: Path, size: int) -> Result:
    filled = _timed(lambda: populate(folder, size))
    foundation = Foundation(folder)
    certificates = [
        found
        for found, _ in SqlIssuedCertificates(foundation.database).find(Selector(since=0), _MOST_QUESTIONS)
    ]
    random.shuffle(certificates)
    revoked = max(1, size // 100)
    rows = [Row("filling", size / filled, "per second"), *_mass_revocation(foundation, certificates, revoked)]
    port = free_port()
    served = RunningService(
        directory=folder,
        url=f"http://127.0.0.1:{port}",
        command=[
            *(str(CA_SERVICE), "serve", "--config", str(folder / "ca.toml")),
            *("--bind", f"127.0.0.1:{port}", "--workers", str(plan.workers)),
        ],
    )
    work = Plan(plan.workers, plan.clients, plan.seconds, folder)
    with running(served):
        rows += _answers(work, served, foundation, certificates)
        rows += _visibility(served, foundation, certificates[:_TURNS])
    foundation.database.close()
    return Result(f"{size:,} certificates issued, {revoked:,} revoked; {plan.workers} workers", rows)


def _mass_revocation(
    foundation: Foundation, certificates: Sequence[IssuedCertificate], count: int
) -> Iterator[Row]:
    now = int(time.time())
    taken = [
        Revocation(
            each.serial,
            each.authority_key,
            each.crl_shard,
            each.not_before,
            now,
            RevocationReason.KEY_COMPROMISE,
        )
        for each in certificates[-count:]
    ]
    revocations = SqlRevocations(foundation.database, machine_clock)
    took = _timed(lambda: revocations.revoke(taken, _ACTOR, "revoke-identity"))
    yield Row("revoking 1 %", took * 1000, "ms")
    service = build_service(load_settings(foundation.folder / "ca.toml", os.environ))
    dirty = len({each.crl_shard for each in taken})
    yield Row(f"signing its {dirty} lists", _timed(service.publication.refresh) * 1000, "ms")
    service.close()


def _answers(
    plan: Plan, served: RunningService, foundation: Foundation, certificates: Sequence[IssuedCertificate]
) -> Iterator[Row]:
    paths = [_path(foundation, each) for each in certificates]
    # Few are asked again and again; then many, each seldom.
    cached = warmed(plan, served, lambda: [request_bytes(served, "GET", path) for path in paths[:32]])
    views, answers = [], []
    with empty_view(plan, served) as empty:
        nothing = warmed(plan, empty, lambda: [request_bytes(empty, "GET", "/empty")])
        for _ in range(3):
            answers.append(load(plan, served, cached, plan.seconds / 3)["rate"])
            views.append(load(plan, empty, nothing, plan.seconds / 3)["rate"])
    view, answer = statistics.median(views), statistics.median(answers)
    yield Row("empty Flask view", view, "per second", 1.0)
    yield Row("OCSP by GET, cached", answer, "per second", answer / view)
    signed = load(plan, served, [request_bytes(served, "GET", path) for path in paths], plan.seconds / 3)
    yield Row(f"OCSP, {len(paths):,} certificates", signed["rate"], "per second", signed["rate"] / view)


def _path(foundation: Foundation, certificate: IssuedCertificate) -> str:
    authority = foundation.authority
    name_hash = sha256(authority.subject_der).digest()
    point = authority.certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    question = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        name_hash, sha256(point).digest(), certificate.serial, hashes.SHA256()
    )
    encoded = base64.b64encode(question.build().public_bytes(Encoding.DER)).decode()
    return f"/ocsp/{urllib.parse.quote(encoded, safe='')}"


def _visibility(
    served: RunningService, foundation: Foundation, certificates: Sequence[IssuedCertificate]
) -> Iterator[Row]:
    """Ask over many fresh connections at once as soon as a revocation has returned, turn by turn."""
    wrong, first, last = 0, [], []
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for certificate in certificates:
            path = _path(foundation, certificate)
            _ask_together(pool, served, path, 0.0)  # now every worker has it in its cache as good
            served.admin("revoke", "certificate", format_serial(certificate.serial))
            answers = _ask_together(pool, served, path, time.perf_counter())
            wrong += sum(each.status is not ocsp.OCSPCertStatus.REVOKED for each in answers)
            first.append(min(each.after for each in answers) * 1000)
            last.append(max(each.after for each in answers) * 1000)
    yield Row(f"of {_TURNS} × {_CONNECTIONS} not revoked", float(wrong), "answers")
    yield Row("first revoked answer", statistics.median(first), "ms")
    yield Row("last of them", statistics.median(last), "ms")


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
