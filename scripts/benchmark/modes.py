"""What can be measured. A new mode is a function in a module of its own, and its name here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from scripts.benchmark import log as growing_log
from scripts.benchmark.asking import signing_requests as signing_requests  # the log's measurement asks here
from scripts.benchmark.crl import crl
from scripts.benchmark.growth import growth
from scripts.benchmark.identity import identity
from scripts.benchmark.issuance import issuance
from scripts.benchmark.ocsp import ocsp
from scripts.benchmark.plan import Options, Result
from scripts.benchmark.profile import profile
from scripts.benchmark.revocation import revocation
from scripts.benchmark.size import size
from scripts.benchmark.where import where


@dataclass(frozen=True)
class Mode:
    """One kind of measurement; `what` is its line in --help."""

    what: str
    measure: Callable[[Options], Iterable[Result]]


def _one(measure: Callable[[Options], Result]) -> Callable[[Options], Iterable[Result]]:
    return lambda options: [measure(options)]


def _log(options: Options) -> Iterable[Result]:
    plan = options.plan(options.folder)
    return growing_log.log(plan, options.engines or growing_log.ENGINES, options.sizes or growing_log.SIZES)


def _identity(options: Options) -> Result:
    return identity(options.plan(options.folder))


MODES: Mapping[str, Mode] = {
    "issuance": Mode(
        "CPU for a certificate against the five operations it cannot do without", _one(issuance)
    ),
    "size": Mode("the same at --sizes certificates; and the time until a revocation is seen", _one(size)),
    "ocsp": Mode("cached answers against an empty view; behind nginx against openssl ocsp", _one(ocsp)),
    "crl": Mode("lists of --lists entries against openssl ca -gencrl", _one(crl)),
    "log": Mode("appends, proofs and issuance while the log grows to --sizes (ten minutes)", _log),
    "revocation": Mode("revoking, publishing, answering with --sizes issued", revocation),
    "growth": Mode("start, memory, latencies at --sizes, on --engine, as curves in --png", growth),
    "identity": Mode("from a token to who it names, without its signature's check", _one(_identity)),
    "profile": Mode("where a certificate's time goes in running workers, by thread, room and line", profile),
    "where": Mode("the same within one process and one thread, by cProfile", _one(where)),
}
TABLE = ("issuance", "size", "ocsp", "crl")
"""What is measured when no mode is named: every figure that docs/design/performance.md has a target for."""
