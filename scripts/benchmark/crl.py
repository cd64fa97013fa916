"""A CRL of one shard, built and signed, against `openssl ca -gencrl` with the same entries."""

import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ca_service.pki.crl import Entry, build_crl
from ca_service.vocabulary import Serial, format_serial
from scripts.benchmark.plan import Goal, Options, Result, Row, middle
from scripts.benchmark.population import populate
from scripts.benchmark.turns import progress
from tests.support.entries import Foundation

_GOALS = {100_000: Goal(now=0.2), 1_000_000: Goal(then=1.0)}
_TIMES_FASTER = Goal(then=8.0, at_least=True)


def crl(options: Options) -> Result:
    """Seconds for each length, openssl's between ours."""
    folder = options.folder / "lists"
    populate(folder, 1)
    authority = Foundation(folder).authority
    now = datetime.now(UTC).replace(microsecond=0)
    rows: list[Row] = []
    for length in options.lists:
        progress(f"lists with {length:,} entries")
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

        work = _openssl(folder / f"openssl-{length}", entries)
        mine = [timed(ours)]
        theirs = timed(work)
        mine += [timed(ours) for _ in range(options.rounds)]
        rows.append(middle(f"{length:,} entries", mine, "s", goal=_GOALS.get(length)))
        rows.append(
            middle(
                "  times as fast as openssl ca -gencrl",
                [theirs / each for each in mine],
                "×",
                goal=_TIMES_FASTER,
                note=f"openssl: {theirs:.2f} s, its start and its index included",
                facts={"openssl_seconds": theirs},
            )
        )
    return Result("CRL of one shard, built and signed", rows)


def _openssl(folder: Path, entries: Sequence[Entry]) -> Callable[[], object]:
    """What makes the same list with openssl, from the file that it keeps its certificates in."""
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
    return lambda: subprocess.run(["openssl", *order], check=True, capture_output=True)


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
