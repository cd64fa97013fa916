"""What one manifest says of another, of the guide, or of the program: names, ports, keys, labels, paths."""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tests.support.deployment import DEPLOY, ROOT, kinds, objects, pod_specs, workloads

CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text()
COMPOSE = (DEPLOY / "container" / "compose.yaml").read_text()
KUBERNETES = DEPLOY / "kubernetes"
GUIDE = (ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md").read_text()
FIRST_COMMENTS = re.compile(r"\A(#.*\n)+")


def commands(text: str) -> list[list[str]]:
    """The commands in a comment or in shell blocks, continued lines joined."""
    plain = re.sub(r"^# ?", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.strip() for line in plain.splitlines())
    return [shlex.split(line) for line in lines if re.match(r"(kubectl|docker|podman|install) ", line)]


def blocks(document: str) -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", document, re.MULTILINE | re.DOTALL))


def made(given: Iterable[list[str]], *, default_namespace: str) -> dict[tuple[str, str, str], set[str]]:
    """What `kubectl create` makes: namespace, kind and name, with its keys; "*" for a folder's files."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for words in given:
        if "create" not in words or "--dry-run=client" in words or "namespace" in words:
            continue
        options = words[: words.index("create")]
        namespace = (
            options[options.index("--namespace") + 1] if "--namespace" in options else default_namespace
        )
        kind, *rest = words[words.index("create") + 1 :]
        way, name = ("", rest[0]) if kind == "configmap" else rest[:2]
        keys = {"tls.crt", "tls.key"} if way == "tls" else set()
        for word in rest:
            if word.startswith("--from-file="):
                file = word.removeprefix("--from-file=").partition("=")[0]
                keys.add("*" if file.endswith("/") else file.rpartition("/")[2])
        found[namespace, kind, name] = keys
    return found


def wanted() -> dict[tuple[str, str, str], set[str]]:
    """What the pods take from ConfigMaps and Secrets: namespace, kind and name, with the keys they name."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for one in workloads():
        namespace, spec = one["metadata"]["namespace"], one["spec"]["template"]["spec"]
        for volume in spec["volumes"]:
            for kind, member, key in (("configmap", "configMap", "name"), ("secret", "secret", "secretName")):
                if member in volume:
                    items = {item["key"] for item in volume[member].get("items", ())}
                    found.setdefault((namespace, kind, volume[member][key]), set()).update(items)
        for container in spec["containers"]:
            for variable in container.get("env", ()):
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    place = (namespace, "secret", reference["name"])
                    found.setdefault(place, set()).add(reference["key"])
    return found


@pytest.mark.parametrize("where", ["comments", "guide"])
def test_what_pods_take_is_what_the_commands_make(where: str) -> None:
    files = [*KUBERNETES.glob("*.yaml"), KUBERNETES / "databases" / "kustomization.yaml"]
    comments = "\n".join(found[0] for file in files if (found := FIRST_COMMENTS.match(file.read_text())))
    given = made(commands(comments if where == "comments" else blocks(GUIDE)), default_namespace="ca-service")
    needed = wanted()
    if where == "guide":
        needed = {place: keys for place, keys in needed.items() if place[0] == "ca-service"}
    assert set(given) == set(needed)
    for place, keys in needed.items():
        assert "*" in given[place] or keys <= given[place], place


def test_files_that_the_commands_name_are_there() -> None:
    for file in (GUIDE, *(each.read_text() for each in KUBERNETES.rglob("*.yaml")), CONTAINERFILE, COMPOSE):
        for named in set(re.findall(r"(?<![\w/.])deploy/[\w./-]+[\w/]", file)):
            assert (ROOT / named).exists(), named
    existing = {(one["kind"].lower(), one["metadata"]["name"]) for one in objects()}
    for words in commands(blocks(GUIDE)):
        for kind, name in re.findall(
            r"(?<![\w-])(statefulset|deployment|job|service)[/ ]([a-z][\w-]+)", " ".join(words)
        ):
            assert (kind, name) in existing, words
        for name in re.findall(r"\bpod/([\w-]+)-\d", " ".join(words)):
            assert ("statefulset", name) in existing, words
    # The image is built under the name that the pods ask for.
    (built,) = {words[words.index("--tag") + 1] for words in commands(blocks(GUIDE)) if "--tag" in words}
    images = {container["image"] for _, spec in pod_specs() for container in spec["containers"]}
    assert {image for image in images if "ca-service" in image} == {built}


def test_workloads_name_accounts_services_and_labels_that_exist() -> None:
    accounts, services = kinds("ServiceAccount"), kinds("Service")
    for one in workloads():
        namespace, spec = one["metadata"]["namespace"], one["spec"]["template"]["spec"]
        labels = one["spec"]["template"]["metadata"]["labels"].items()
        if "serviceAccountName" in spec:
            assert (namespace, spec["serviceAccountName"]) in accounts
        if one["kind"] == "StatefulSet":
            assert services[namespace, one["spec"]["serviceName"]]["spec"]["selector"].items() <= labels
        own = [term["podAffinityTerm"] for term in anti_affinity(spec)]
        selectors = [one["spec"].get("selector"), *(each.get("labelSelector") for each in own)]
        selectors += [each["labelSelector"] for each in spec.get("topologySpreadConstraints", ())]
        for selector in selectors:
            assert selector is None or selector["matchLabels"].items() <= labels, one["metadata"]["name"]


def anti_affinity(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    rules = spec.get("affinity", {}).get("podAntiAffinity", {})
    terms: list[dict[str, Any]] = rules.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return terms


def test_a_drained_machine_leaves_a_pod_of_each_kind() -> None:
    for (namespace, name), budget in kinds("PodDisruptionBudget").items():
        guarded = [
            one["spec"]["replicas"]
            for one in workloads()
            if one["metadata"]["namespace"] == namespace
            and budget["spec"]["selector"] == one["spec"].get("selector")
        ]
        assert len(guarded) == 1, name
        assert budget["spec"]["maxUnavailable"] < guarded[0], name


def selected(namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The pods' specifications that these labels select there."""
    return [
        one["spec"]["template"]["spec"]
        for one in workloads()
        if one["metadata"]["namespace"] == namespace
        and labels.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    ]


def ports(specs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for spec in specs
        for container in spec["containers"]
        for port in container.get("ports", ())
    }


def test_services_and_policies_name_ports_that_their_pods_have() -> None:
    for (namespace, name), service in kinds("Service").items():
        there = ports(selected(namespace, service["spec"]["selector"]))
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(there), name
    for (namespace, name), policy in kinds("NetworkPolicy").items():
        rules, labels = policy["spec"], policy["spec"]["podSelector"].get("matchLabels", {})
        here = ports(selected(namespace, labels))
        for rule in rules.get("ingress", ()):
            assert {port["port"] for port in rule["ports"]} <= set(here), name
        for rule in rules.get("egress", ()):
            for peer in rule["to"]:
                there_labels = peer.get("podSelector", {}).get("matchLabels", {})
                if "namespaceSelector" not in peer and "podSelector" in peer:
                    others = selected(namespace, there_labels)
                    assert others, f"{name} lets pods ask nobody"
                    assert {port["port"] for port in rule["ports"]} <= set(ports(others)), name


def test_pods_may_ask_whom_they_must_and_are_let_in_there() -> None:
    policies = kinds("NetworkPolicy")
    databases = ports(selected("databases", {}))
    assert databases == {"postgresql": 5432, "redis": 6379}
    asked: dict[str, set[int]] = {}
    for name in ("ca-service", "ca-service-migrate", "ca-service-nginx"):
        egress = policies["ca-service", name]["spec"]["egress"]
        namespaces = {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: rule["ports"]
            for rule in egress
            for peer in rule["to"]
            if "namespaceSelector" in peer
        }
        # Each names others by name.
        assert {(port["port"], port["protocol"]) for port in namespaces["kube-system"]} == {
            (53, "UDP"),
            (53, "TCP"),
        }
        asked[name] = {port["port"] for port in namespaces.get("databases", ())}
    assert asked == {"ca-service": {5432, 6379}, "ca-service-migrate": {5432}, "ca-service-nginx": set()}
    (let_in,) = policies["databases", "databases"]["spec"]["ingress"]
    (namespace,) = let_in["from"]
    assert namespace["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ca-service"}
    assert {port["port"] for port in let_in["ports"]} == set(databases)
    for host, port in re.findall(r"@(\w+)\.databases(?::(\d+))?/", GUIDE):
        assert ("databases", host) in kinds("Service")
        assert not port
    closed = policies["ca-service", "nothing"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_pods_are_what_the_restricted_standard_admits() -> None:
    (namespace,) = kinds("Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    sysctls = {"net.ipv4.ip_unprivileged_port_start"}
    for name, spec in pod_specs():
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec), name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert {each["name"] for each in spec["securityContext"].get("sysctls", ())} <= sysctls, name
        assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= volumes, name
        for container in spec["containers"]:
            assert set(container["securityContext"]) == {
                "allowPrivilegeEscalation",
                "readOnlyRootFilesystem",
                "capabilities",
            }, name
            assert not any("hostPort" in port for port in container.get("ports", ())), name
