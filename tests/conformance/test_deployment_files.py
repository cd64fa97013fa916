"""The files in deploy/, judged by the programs that would use them, as far as these run without root."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # ships no types
import pytest
import yaml

from ca_service.settings import load_settings
from ca_service.settings.rendering import EXAMPLE, settings_file
from tests.support.nginx import checked, configured

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def documents(file: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(file.read_text())


def pod_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in MANIFESTS:
        for document in documents(file):
            if document["kind"] in ("StatefulSet", "Job"):
                yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def test_nginx_takes_the_configuration_as_it_is_shipped(tmp_path: Path) -> None:
    assert checked(configured(tmp_path, ["127.0.0.1:5555", "127.0.0.1:5556"])) == ""


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
    linted = ran(Path(sys.executable).parent / "hadolint", DEPLOY / "container" / "Containerfile")
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_kubernetes_knows_every_member_of_the_manifests(file: Path) -> None:
    found = 0
    for document in documents(file):
        if document["apiVersion"].startswith("kustomize"):
            listed = {DEPLOY / "kubernetes" / name for name in document["resources"]}
            assert listed == set(MANIFESTS) - {file}
        else:
            kubernetes_validate.validate(document, "1.33", strict=True)
        found += 1
    assert found


def test_pods_are_as_confined_as_the_strictest_namespace_demands() -> None:
    specs = dict(pod_specs())
    assert set(specs) == {"ca-service", "ca-service-migrate"}
    for spec in specs.values():
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            for variable in container["env"]:
                secret = "URL" in variable["name"]
                assert ("valueFrom" in variable) == secret, variable["name"]


def test_every_setting_that_the_files_name_exists(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    environments = [compose["services"]["ca-service"]["environment"]]
    for _, spec in pod_specs():
        for container in spec["containers"]:
            secrets = {each["name"]: "" for each in container["env"]} | {
                "CASVC_DATABASE__URL": "sqlite:///x.db"
            }
            given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
            environments.append(secrets | given)
    (tmp_path / "ca.toml").write_text(settings_file(EXAMPLE))
    for environment in environments:
        load_settings(tmp_path / "ca.toml", environment)


def test_services_of_the_compose_file_are_confined_and_its_files_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith(".") and source != "./tls":
                assert (DEPLOY / "container" / source).exists(), source
            elif not source.startswith("."):
                assert source in compose["volumes"]
        for secret in service.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"]
