"""Every metric there is: its name, what it says, its labels, and how several workers' values are joined.

The authority speaks of events and stages (ports.Observer); here they get the names that Prometheus sees.
docs/reference/metrics.md is made from this file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Joined = Literal["sum", "max", "scrape"]

STAGE_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. A counter's `name` goes without _total.

    `joined`: "sum" and "max" say how the workers' values become one, dead workers' gauges left out; "scrape"
    is read when the page is asked for. `values` are those of its one label that are shown before they occur.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    joined: Joined = "sum"
    buckets: tuple[float, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name that a query begins with: that of its counter, gauge or histogram."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


@dataclass(frozen=True, slots=True)
class Event:
    """What an event of the authority counts in: a metric, and the values of labels that the event implies."""

    metric: Metric
    implied: Mapping[str, str] = field(default_factory=dict)


def _counter(name: str, text: str, *labels: str, values: tuple[str, ...] = ()) -> Metric:
    return Metric(f"casvc_{name}", "counter", text, labels, values=values)


def _gauge(name: str, text: str, *labels: str, joined: Joined = "scrape") -> Metric:
    return Metric(f"casvc_{name}", "gauge", text, labels, joined)


_CERT_STATUSES = ("good", "revoked", "unknown")
_OCSP_ERRORS = ("malformed_request", "internal_error", "try_later", "sig_required", "unauthorized")
_OCSP = _counter(
    "ocsp_responses",
    "OCSP answers, by the status of each certificate asked for, and OCSP errors.",
    "status",
    values=(*_CERT_STATUSES, *_OCSP_ERRORS),
)

EVENTS: Mapping[str, Event] = {
    "certificate_issued": Event(_counter("certificates_issued", "Certificates that were released.")),
    "certificate_refused": Event(
        _counter(
            "certificates_refused",
            "Requests for a certificate that were refused or failed, by the slug of the error.",
            "reason",
        )
    ),
    "log_busy": Event(_counter("log_queue_full", "Entries refused because the log's queue was full.")),
    "log_batch_failed": Event(
        _counter("log_batches_failed", "Batches of entries that the log did not store.", "reason")
    ),
    "log_shards_not_read": Event(
        _counter("log_shards_not_read", "Times the list of log shards could not be read anew.")
    ),
    "log_shard_frozen": Event(_counter("log_shards_frozen", "Log shards whose final head was signed.")),
    "log_export_failed": Event(
        _counter("log_export_failures", "Times the log could not be written as files.", "reason")
    ),
    "certificate_revoked": Event(
        _counter("certificates_revoked", "Certificates revoked through this service.", "reason")
    ),
    "revocation_withdrawn": Event(
        _counter("revocations_withdrawn", "Revocations withdrawn through this service.")
    ),
    "identity_blocked": Event(_counter("identities_blocked", "Blocks stored through this service.")),
    "identity_unblocked": Event(_counter("identities_unblocked", "Blocks removed through this service.")),
    "crl_shard_opened": Event(_counter("crl_shards_opened", "CRL shards opened with an empty first list.")),
    "crl_built": Event(_counter("crls_built", "CRLs built from the revocations, because these changed.")),
    "crl_signed_again": Event(_counter("crls_signed_again", "CRLs signed again because they grew old.")),
    "crl_rebuild_failed": Event(_counter("crl_rebuild_failures", "CRLs that were due and not signed.")),
    "ocsp_status": Event(_OCSP),
    "ocsp_error": Event(_OCSP),
    "high_water_mark_created": Event(
        _counter("high_water_marks_created", "High-water marks created because there was none.")
    ),
    "high_water_mark_failed": Event(
        _counter("high_water_mark_failures", "Times the relaxed mark could not rise.", "reason")
    ),
    "housekeeping_failed": Event(
        _counter("housekeeping_failures", "Tasks of the house that failed; they are tried again.", "reason")
    ),
    "admin_unauthenticated": Event(
        _counter("admin_unauthenticated", "Administrative calls without an accepted token.", "cause")
    ),
    "admin_rate_limited": Event(
        _counter("admin_rate_limited", "Administrative calls refused because there were too many.")
    ),
    "admin_forbidden": Event(
        _counter("admin_forbidden", "Administrative calls of accounts without the role.", "needed")
    ),
    "admin_refusal_not_recorded": Event(
        _counter("admin_refusal_not_recorded", "Refusals left out of the audit trail: there were many.")
    ),
    "rate_limit_unavailable": Event(
        _counter(
            "rate_limit_unavailable",
            "Requests that went on without a limit because Redis was away (away, pause) or made no sense"
            " (nonsense).",
            "reason",
            values=("away", "pause", "nonsense"),
        )
    ),
    "redis_error": Event(_counter("redis_errors", "Uses of Redis that failed.", "use", "reason")),
    "issuer_keys_fetched": Event(
        _counter("issuer_keys_fetched", "Times an issuer's keys were fetched.", "issuer")
    ),
    "issuer_keys_fetch_failed": Event(
        _counter("issuer_keys_fetch_failed", "Times an issuer's keys were not fetched.", "issuer", "cause")
    ),
    "issuer_stale_keys_served": Event(
        _counter(
            "issuer_stale_keys_served",
            "Tokens checked with old keys, because the issuer did not give newer ones.",
            "issuer",
        )
    ),
    "issuer_keys_fetched_for_unknown_kid": Event(
        _counter(
            "issuer_keys_fetched_for_unknown_kid",
            "Fetches because a token named a key that was not known.",
            "issuer",
        )
    ),
    "database_error": Event(
        _counter(
            "database_errors",
            "Errors of the database or its driver: unavailable, row-refused, disk-untrusted.",
            "kind",
            values=("unavailable", "row-refused", "disk-untrusted"),
        )
    ),
    "overloaded": Event(
        _counter("overload_refusals", "Requests refused because there were too many at a time.", "reason")
    ),
    "fault": Event(
        _counter("internal_errors", "Errors that the service does not know: status 500, and a traceback.")
    ),
    "publication_elected": Event(
        _counter("publication_elected", "Times this node did what one node does for all.")
    ),
    "problem": Event(
        _counter("http_problems", "Requests answered with an error, by route and slug.", "route", "reason")
    ),
    "worker_ended": Event(_counter("workers_ended", "Worker processes that ended, for whatever reason.")),
    "state_not_read": Event(
        _counter("state_read_failures", "Scrapes that could not read the service's state in time.")
    ),
}
"""What ports.Observer.count is told, and where it is counted."""

UNDECLARED = _counter("undeclared_events", "Events that the catalogue of metrics lacks: a defect.")

STAGES = Metric(
    "casvc_stage_seconds",
    "histogram",
    "Time in each stage of the work: decide (token, proof, blocks), precertificate, log (queue and"
    " transaction), certificate, log_batch (one transaction of the log), high_water_mark.",
    ("stage",),
    buckets=STAGE_BUCKETS,
)
REQUESTS = Metric(
    "casvc_http_request_seconds",
    "histogram",
    "Time until a request's answer began, by method, route and class of status (2xx, 4xx, 5xx).",
    ("method", "route", "status"),
    buckets=REQUEST_BUCKETS,
)
SIZES: Mapping[str, Metric] = {
    "log_batch": Metric(
        "casvc_log_batch_entries",
        "histogram",
        "Entries stored in one transaction of the log.",
        buckets=BATCH_BUCKETS,
    ),
}
"""What ports.Observer.size is told."""

LEVELS: Mapping[str, Metric] = {
    "workers": _gauge("workers", "Worker processes that run.", joined="sum"),
    "log_queue": _gauge("log_queue_entries", "Entries that wait for the log, all workers'.", joined="sum"),
    "issuer_keys": _gauge("issuer_keys", "Keys of an issuer that are in use.", "issuer", joined="max"),
    "issuer_keys_fetched_at": _gauge(
        "issuer_keys_fetched_timestamp_seconds",
        "When a worker last fetched an issuer's keys.",
        "issuer",
        joined="max",
    ),
}
"""What ports.Observer.level is told."""

STATE: tuple[Metric, ...] = (
    _gauge("build_info", "1, with the version and what it runs on.", "version", "python", "database"),
    _gauge("start_time_seconds", "When the service started."),
    _gauge("workers_configured", "Worker processes that should run."),
    Metric(
        "casvc_cpu_seconds", "counter", "Processor time of all processes since the start.", joined="scrape"
    ),
    _gauge("resident_memory_bytes", "Memory of all processes; what they share counts in each."),
    _gauge("worker_resident_memory_max_bytes", "Memory of the largest worker."),
    _gauge("open_fds", "Open file descriptors of all processes."),
    _gauge("state_read", "1 when what follows from the database could be read for this page, else 0."),
    _gauge("ready", "1 when every check of /readyz succeeds, else 0."),
    _gauge(
        "check_ok",
        "1 when a check of /readyz succeeds, else 0; redis, when it is used, is not needed.",
        "check",
    ),
    _gauge("log_tree_size", "Entries of a log shard.", "log"),
    _gauge("log_tree_head_timestamp_seconds", "When a log shard's newest head was signed.", "log"),
    _gauge("log_frozen", "1 when a log shard takes no entries any more, else 0.", "log"),
    _gauge("log_period_end_timestamp_seconds", "When the period of a log shard ends, if it ends.", "log"),
    _gauge("high_water_mark_tree_size", "Entries of a log that the high-water mark has seen.", "log"),
    _gauge("high_water_mark_strict", "1 when the mark rises before anything is released, else 0."),
    _gauge("audit_records", "Number of the newest record of the audit trail."),
    _gauge("revocation_generation", "How often revocations changed since the database was made."),
    _gauge("blocks", "Blocks of identities, expired ones included."),
    _gauge("crl_shards", "CRL shards of an issuing key.", "issuing_key"),
    _gauge("crl_shards_dirty", "CRL shards whose list does not show the newest revocations.", "issuing_key"),
    _gauge("crl_bytes", "Size of all CRLs of an issuing key.", "issuing_key"),
    _gauge("crl_largest_bytes", "Size of the largest CRL of an issuing key.", "issuing_key"),
    _gauge("crl_oldest_this_update_timestamp_seconds", "When its oldest CRL was signed.", "issuing_key"),
    _gauge("crl_next_update_timestamp_seconds", "When its first CRL expires.", "issuing_key"),
    _gauge("root_crl_next_update_timestamp_seconds", "When the root's CRL expires.", "root_key"),
    _gauge("root_crl_bytes", "Size of the root's CRL.", "root_key"),
    _gauge(
        "certificate_not_after_timestamp_seconds",
        "When a certificate of the service ends: role root, issuing, ocsp (delegate) or tls.",
        "role",
        "key",
    ),
    _gauge(
        "authority_issues_until_timestamp_seconds",
        "When an issuing key stops issuing; its certificate goes on for the sake of revocation.",
        "issuing_key",
    ),
    _gauge("issuer_configured", "1 for each issuer of the issuer file and the settings.", "issuer"),
)
"""What is read when the page is asked for."""


def every_metric() -> Iterable[Metric]:
    """All metrics, each once, as the page has them."""
    events = dict.fromkeys(event.metric for event in EVENTS.values())
    return (*events, UNDECLARED, STAGES, REQUESTS, *SIZES.values(), *LEVELS.values(), *STATE)


def metric_named(name: str) -> Metric:
    """The metric of this name, as declared; KeyError when there is none."""
    return _BY_NAME[name]


_BY_NAME = {metric.name: metric for metric in every_metric()}
