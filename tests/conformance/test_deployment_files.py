"""The files in deploy/, judged by the programs that would use them, as far as these run without root."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # ships no types
import pytest

from ca_service.settings import load_settings
from ca_service.settings.rendering import EXAMPLE, settings_file
from ca_service.store.database import DEFAULT_LOCK_TIMEOUT
from ca_service.store.engines import _PATIENCE_SECONDS
from tests.support.deployment import (
    DEPLOY,
    MANIFESTS,
    ROOT,
    compose,
    documents,
    objects,
    pod_specs,
    workloads,
)
from tests.support.nginx import checked, configured

PROGRAMS = Path(sys.executable).parent


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def test_nginx_takes_the_configuration_as_it_is_shipped(tmp_path: Path) -> None:
    nginx = configured(tmp_path, ["127.0.0.1:5555", "127.0.0.1:5556"])
    assert checked(nginx) == ""
    for nodes in ("container", "kubernetes"):
        # The name is one that the engine, or the cluster, resolves.
        text = (DEPLOY / nodes / "nginx-upstream.conf").read_text()
        assert "server ca-service:" in text
        upstream = nginx.folder / "snippets" / "ca-service-upstream.conf"
        upstream.write_text(text.replace("server ca-service:", "server 127.0.0.1:"))
        assert checked(nginx) == ""


def test_the_unit_is_well_formed_and_confined(tmp_path: Path) -> None:
    shipped = (DEPLOY / "systemd" / "ca-service.service").read_text()
    unit = tmp_path / "ca-service.service"
    # It must find the program that it starts.
    program = Path(sys.executable).parent / "ca-service"
    assert "/opt/ca-service/bin/ca-service" in shipped
    unit.write_text(shipped.replace("/opt/ca-service/bin/ca-service", str(program)))
    verified = ran("systemd-analyze", "verify", "--man=no", unit)
    assert verified.returncode == 0, verified.stderr
    assert "ca-service.service" not in verified.stderr
    judged = ran("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit)
    assert judged.returncode == 0, judged.stdout
    assert "Overall exposure level" in judged.stdout


def test_the_container_file_has_nothing_that_its_linter_finds() -> None:
    linted = ran(PROGRAMS / "hadolint", DEPLOY / "container" / "Containerfile")
    assert linted.returncode == 0, linted.stdout


def test_the_image_is_of_what_the_lock_file_says_and_runs_without_root() -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text()
    with (ROOT / "uv.lock").open("rb") as lock:
        uv = next(one["version"] for one in tomllib.load(lock)["package"] if one["name"] == "uv")
    assert f"uv=={uv}" in text
    with (ROOT / "pyproject.toml").open("rb") as project:
        version = tomllib.load(project)["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in text
    build, run = text.split("\nFROM ")[1:]
    assert build.count("uv sync --locked") == 2
    assert "\nUSER 10001:10001\n" in run
    assert not re.search(r"\b(apt-get|gcc|pip|uv) ", run)
    for image in images():
        assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z]+)*$", image), f"{image} may be another one tomorrow"
    (pinned,) = re.findall(r"skopeo inspect .* docker://([^`]+)`", (DEPLOY / "README.md").read_text())
    assert pinned in images(), "how to pin by digest is said of an image that is used"
    named = {image for image in images() if image.partition(":")[0].endswith("ca-service")}
    assert {image.rpartition(":")[2] for image in named} == {version}


def images() -> set[str]:
    """Every image that a file names."""
    containers = [container for _, spec in pod_specs() for container in spec["containers"]]
    arguments = re.findall(
        r"^ARG PYTHON=(.+)$", (DEPLOY / "container" / "Containerfile").read_text(), re.MULTILINE
    )
    assert len(arguments) == 1
    return {
        *arguments,
        *(container["image"] for container in containers),
        *(service["image"] for service in compose()["services"].values()),
    }


def test_compose_files_are_what_their_specification_says() -> None:
    checked = ran(
        *(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        *sorted((DEPLOY / "container").glob("compose*.yaml")),
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_kubernetes_knows_every_member_of_the_manifests(file: Path) -> None:
    found = 0
    for document in documents(file):
        if document["apiVersion"].startswith("kustomize"):
            listed = {file.parent / name for name in document["resources"]}
            assert listed == set(file.parent.glob("*.yaml")) - {file}
        else:
            kubernetes_validate.validate(document, "1.33", strict=True)
        found += 1
    assert found


def test_pods_are_as_confined_as_the_strictest_namespace_demands() -> None:
    specs = dict(pod_specs())
    assert set(specs) == {"ca-service", "ca-service-migrate", "ca-service-nginx", "postgresql", "redis"}
    for name, spec in specs.items():
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"], name
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            for variable in container.get("env", ()):
                secret = "URL" in variable["name"]
                assert ("valueFrom" in variable) == secret, variable["name"]
            if name != "ca-service-migrate":
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
    for spec in (specs["ca-service"], specs["ca-service-nginx"]):
        assert "podAntiAffinity" in spec["affinity"]
        assert "preStop" in spec["containers"][0]["lifecycle"]


def test_every_pod_has_what_it_mounts_and_what_selects_it() -> None:
    pods = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in workloads()}
    for one in pods.values():
        spec = one["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())]
        volumes = {*(volume["name"] for volume in spec["volumes"]), *claims}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                for way in ("httpGet", "tcpSocket"):
                    assert way not in asked or asked[way]["port"] in ports
    labelled = {place: one["spec"]["template"]["metadata"]["labels"] for place, one in pods.items()}
    for one in objects():
        named = one["metadata"].get("namespace", one["metadata"]["name"])
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"].get("matchLabels", {}),
        }.get(one["kind"])
        if selector is not None:
            wanted = selector(one["spec"]).items()
            assert any(
                namespace == named and wanted <= labels.items() for (namespace, _), labels in labelled.items()
            ), f"{one['kind']} {one['metadata']['name']} selects nothing"


def test_who_asks_whether_a_node_is_ready_waits_until_it_has_given_a_database_up() -> None:
    (spec,) = (spec for name, spec in pod_specs() if name == "ca-service")
    probe = spec["containers"][0]["readinessProbe"]
    check = compose()["services"]["ca-service"]["healthcheck"]
    asked = re.search(r"/readyz', timeout=(\d+)", check["test"][-1])
    assert asked is not None
    assert probe["httpGet"]["path"] == "/readyz"
    waits = {probe["timeoutSeconds"], int(asked[1])}
    assert waits == {10}
    assert int(check["timeout"].removesuffix("s")) > 10
    given_up_after = DEFAULT_LOCK_TIMEOUT + _PATIENCE_SECONDS
    assert given_up_after == 6
    advised = (ROOT / "docs" / "how-to" / "run-several-nodes.md").read_text()
    assert "given up after six seconds, so let the probe wait for ten" in advised


def test_the_proxys_pod_mounts_what_its_configuration_includes() -> None:
    (spec,) = (spec for name, spec in pod_specs() if name == "ca-service-nginx")
    (container,) = spec["containers"]
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = {
        f"{paths[volume['name']]}/{item['path']}"
        for volume in spec["volumes"]
        for item in (volume.get("configMap") or volume.get("secret") or {}).get("items", ())
    }
    text = (DEPLOY / "nginx" / "ca-service.conf").read_text()
    named = {f"/etc/nginx/{file}" for file in re.findall(r"include (snippets/[\w.-]+);", text)}
    named |= set(re.findall(r"(/etc/nginx/[\w./-]+);", text))
    assert len(named) == 4
    assert named <= files
    written = set(re.findall(r"(/var/(?:cache|log)/nginx)/", text))
    assert written <= set(paths.values())


def test_every_setting_that_the_files_name_exists(tmp_path: Path) -> None:
    environments = [
        service["environment"]
        for service in compose()["services"].values()
        if service["image"].startswith("ca-service:")
    ]
    for name, spec in pod_specs():
        if name in ("ca-service", "ca-service-migrate"):
            for container in spec["containers"]:
                secrets = {each["name"]: "" for each in container["env"]} | {
                    "CASVC_DATABASE__URL": "sqlite:///x.db"
                }
                given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
                environments.append(secrets | given)
    assert len(environments) == 5
    (tmp_path / "ca.toml").write_text(settings_file(EXAMPLE))
    for environment in environments:
        load_settings(tmp_path / "ca.toml", environment)


def test_services_of_the_compose_file_are_confined_and_its_files_exist() -> None:
    loaded = compose()
    made_by_hand = ("./tls", "./issuers.yaml")
    for name, service in loaded["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["networks"]) <= set(loaded["networks"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith(".") and source not in made_by_hand:
                assert (DEPLOY / "container" / source).exists(), source
            elif not source.startswith("."):
                assert source in loaded["volumes"]
        assert set(service.get("secrets", ())) <= set(loaded["secrets"])
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or value.startswith("/run/secrets/"), variable
        if name not in ("init", "migrate"):
            assert "healthcheck" in service, name
    assert loaded["networks"]["databases"]["internal"] is True
    exposed = {name for name, service in loaded["services"].items() if "ports" in service}
    assert exposed == {"nginx"}
