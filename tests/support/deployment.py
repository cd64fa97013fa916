"""What the files in deploy/ say, read once for all who judge them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
WORKLOADS = ("StatefulSet", "Deployment", "Job")

Object = dict[str, Any]


def documents(file: Path) -> Iterator[Object]:
    """The YAML documents of a file."""
    yield from yaml.safe_load_all(file.read_text())


def objects() -> Iterator[Object]:
    """Every object that the manifests make, those of the kustomizations left out."""
    for file in MANIFESTS:
        yield from (one for one in documents(file) if not one["apiVersion"].startswith("kustomize"))


def workloads() -> Iterator[Object]:
    """The objects that make pods."""
    return (one for one in objects() if one["kind"] in WORKLOADS)


def pod_specs() -> Iterator[tuple[str, Object]]:
    """Each workload's name, and the specification of its pods."""
    for one in workloads():
        yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def kinds(kind: str) -> dict[tuple[str, str], Object]:
    """The manifests' objects of a kind, by namespace and name."""
    return {
        (one["metadata"].get("namespace", ""), one["metadata"]["name"]): one
        for one in objects()
        if one["kind"] == kind
    }


def pod(name: str) -> Object:
    """The specification of one workload's pods."""
    return dict(pod_specs())[name]


def compose() -> Object:
    """The compose file."""
    loaded: Object = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    return loaded
