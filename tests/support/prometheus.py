"""Reading what Prometheus would read: a page of metrics, and the metrics that queries name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families

from ca_service.telemetry.catalogue import Metric, every_metric

_SELECTOR = re.compile(r"\b((?:casvc|up)\w*)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
GIVEN_BY_PROMETHEUS = frozenset({"instance", "job", "alertname", "alertstate"})


@dataclass(frozen=True)
class Page:
    """One scrape: the value of each sample by name and labels."""

    text: str
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    families: frozenset[str]

    def value(self, name: str, **labels: str) -> float:
        """The value of one sample, 0 when there is none."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def values(self, name: str, label: str) -> set[str]:
        """Every value of a label of one name."""
        return {dict(labels).get(label, "") for sample, labels in self.samples if sample == name}

    def labels(self, name: str) -> set[str]:
        """Every label of one name."""
        return {label for sample, labels in self.samples if sample == name for label, _ in labels}


def scrape(address: str) -> Page:
    """Read the page at HOST:PORT."""
    reply = requests.get(f"http://{address}/metrics", timeout=60)
    assert reply.status_code == 200, reply.text
    families = list(text_string_to_metric_families(reply.text))
    return Page(
        reply.text,
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        },
        frozenset(family.name for family in families),
    )


@dataclass(frozen=True)
class Selector:
    """One selector of a query: a metric, and matchers as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    @property
    def declared(self) -> Metric:
        """The metric that this is, or is a part of; StopIteration when there is none."""
        return next(
            metric
            for metric in every_metric()
            if self.name == metric.shown
            or (metric.kind == "histogram" and re.fullmatch(f"{metric.name}_(bucket|sum|count)", self.name))
        )


def selectors(query: str) -> Iterator[Selector]:
    """Every selector of a PromQL query."""
    for name, matchers in _SELECTOR.findall(query):
        yield Selector(name, tuple(_MATCHER.findall(matchers)))


def groupings(query: str) -> set[str]:
    """Every label that a PromQL query groups or joins by."""
    return {label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")} - {""}
