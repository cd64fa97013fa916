"""What can be measured. A new mode is a function here and its name in MODES."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.benchmark import floor
from scripts.benchmark.identity import identity
from scripts.benchmark.plan import Plan, Result, Row
from scripts.benchmark.server import empty_view, issuing_service, load, request_bytes, warmed
from scripts.benchmark.where import where
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, http
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.verifier import ocsp_get_url, openssl

_SIGNERS = 1000
"""Different tokens and keys in the load, so that no cache of either helps."""
_STATUSES = 32
"""Different certificates asked about: few, since cached answers are what is measured."""


def issuance(plan: Plan) -> Result:
    """Server CPU for one issued certificate against the five operations it cannot do without."""
    before = floor.measure()
    with issuing_service(plan) as (service, issuer):
        requests = warmed(plan, service, lambda: signing_requests(service, issuer))
        measured = load(plan, service, requests, plan.seconds)
    after = floor.measure()
    # Before and after, because the machine's speed is not the same all the time.
    operations = {name: (before[name] + after[name]) / 2 for name in before}
    lowest = sum(operations.values())
    cost = measured["server_cpu_seconds"] / measured["good"] * 1e6
    return Result(
        "issuance: gunicorn, SQLite, durable log",
        [
            *(Row(name, value, "µs CPU") for name, value in operations.items()),
            Row("floor: these five", lowest, "µs CPU", 1.0),
            Row("service, one certificate", cost, "µs CPU", cost / lowest),
            Row("certificates", measured["rate"], "per second"),
            Row("p50", measured["p50_ms"], "ms"),
            Row("p99", measured["p99_ms"], "ms"),
        ],
    )


def signing_requests(service: RunningService, issuer: LocalIssuer) -> list[bytes]:
    made = []
    for number in range(_SIGNERS):
        email = f"signer-{number}@example.com"
        headers = {**bearer(issuer.token(email)), "Content-Type": "application/json"}
        body = json.dumps(key_body(new_key(), email)).encode()
        made.append(request_bytes(service, "POST", "/api/v2/signingCert", headers, body))
    return made


def ocsp(plan: Plan) -> Result:
    """Cached OCSP answers by GET against an empty Flask view under the same gunicorn, turn by turn."""
    turns = 3
    with issuing_service(plan) as (service, issuer), empty_view(plan, service) as empty:
        asked = warmed(plan, service, lambda: _status_requests(plan, service, issuer))
        nothing = warmed(plan, empty, lambda: [request_bytes(empty, "GET", "/empty")])
        answers, views = [], []
        for _ in range(turns):
            answers.append(load(plan, service, asked, plan.seconds / turns))
            views.append(load(plan, empty, nothing, plan.seconds / turns))
    status, view = (statistics.median(each["rate"] for each in turn) for turn in (answers, views))
    costs = [
        sum(each["server_cpu_seconds"] for each in turn) / sum(each["good"] for each in turn) * 1e6
        for turn in (answers, views)
    ]
    return Result(
        "status: OCSP by GET, cached",
        [
            Row("empty Flask view", view, "per second", 1.0),
            Row("OCSP answers", status, "per second", status / view),
            Row("empty Flask view", costs[1], "µs CPU"),
            Row("OCSP answer", costs[0], "µs CPU"),
            Row("p50", statistics.median(each["p50_ms"] for each in answers), "ms"),
            Row("p99", statistics.median(each["p99_ms"] for each in answers), "ms"),
        ],
    )


def _status_requests(plan: Plan, service: RunningService, issuer: LocalIssuer) -> list[bytes]:
    email = "status@example.com"
    token = issuer.token(email)
    folder: Path = plan.folder / "status"
    made = []
    with http() as session:
        for _ in range(_STATUSES):
            issued = issue(session, service.url, token, email)
            issued.write(folder)
            openssl(
                *("ocsp", "-issuer", "issuing.pem", "-sha256", "-cert", "leaf.pem"),
                *("-no_nonce", "-reqout", "request.der"),
                folder=folder,
            )
            url = ocsp_get_url(issued.leaf, (folder / "request.der").read_bytes())
            made.append(request_bytes(service, "GET", url.removeprefix(service.url)))
    return made


MODES: Mapping[str, Callable[[Plan], Result]] = {
    "issuance": issuance,
    "ocsp": ocsp,
    "identity": identity,
    "where": where,
}
