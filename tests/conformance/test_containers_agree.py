"""What image, compose, proxy and unit say of each other and of the program: users, ports, times, logs."""

import ipaddress
import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from ca_service.settings import load_settings
from ca_service.settings.rendering import EXAMPLE, settings_file
from tests.support.deployment import DEPLOY, ROOT, compose, kinds, pod

CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text()
COMPOSE = (DEPLOY / "container" / "compose.yaml").read_text()
HEAD = COMPOSE.partition("\nname:")[0]


def test_probes_ask_what_the_program_answers_where_it_listens() -> None:
    answered = set(json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text())["paths"])
    (node,) = pod("ca-service")["containers"]
    listening = {port["name"]: port["containerPort"] for port in node["ports"]}
    bind = node["args"][node["args"].index("--bind") + 1]
    environ = {each["name"]: each.get("value") for each in node["env"]}
    assert bind == f"0.0.0.0:{listening['http']}"
    assert environ["CASVC_METRICS__BIND"] == f"0.0.0.0:{listening['metrics']}"
    probes = [node[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["path"] for probe in probes} <= answered
    assert {probe["port"] for probe in probes} == {"http"}
    service = compose()["services"]["ca-service"]
    checks = [
        *re.findall(r"urlopen\('([^']+)'", CONTAINERFILE),
        service["healthcheck"]["test"][-1].split("'")[1],
    ]
    assert len(checks) == 2
    for url in map(urlsplit, checks):
        assert url.path in answered
        assert url.port == listening["http"]
    assert f"EXPOSE {listening['http']}" in CONTAINERFILE
    for words in (
        re.findall(r"^CMD (\[.+\])$", CONTAINERFILE, re.MULTILINE)[0],
        json.dumps(service["command"]),
    ):
        assert json.loads(words) == node["args"]


def test_proxies_send_requests_to_where_the_nodes_are() -> None:
    upstreams = {
        folder: set(
            re.findall(r"server ([\w.-]+):(\d+)", (DEPLOY / folder / "nginx-upstream.conf").read_text())
        )
        for folder in ("container", "kubernetes")
    }
    service = kinds("Service")["ca-service", "ca-service"]["spec"]
    assert upstreams["kubernetes"] == {("ca-service", str(service["ports"][0]["port"]))}
    services, networks = compose()["services"], compose()["networks"]
    assert upstreams["container"] == {
        ("ca-service", services["ca-service"]["command"][-1].rpartition(":")[2])
    }
    front = ipaddress.ip_network(networks["front"]["ipam"]["config"][0]["subnet"])
    assert services["ca-service"]["environment"]["CASVC_SERVER__TRUSTED_PROXIES"] == str(front)
    assert ipaddress.ip_address(services["ca-service"]["networks"]["front"]["ipv4_address"]) in front
    shared = set(services["nginx"]["networks"]) & set(services["ca-service"]["networks"])
    assert shared == {"front"}


def test_compose_services_name_each_other_and_own_their_secrets() -> None:
    loaded = compose()
    services = loaded["services"]
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in services, name
            assert condition["condition"] != "service_healthy" or "healthcheck" in services[other], other
    node = services["ca-service"]
    database = urlsplit(node["environment"]["CASVC_DATABASE__URL"])
    server = services["postgres"]["environment"]
    assert (database.hostname, database.username, database.path) == (
        "postgres",
        server["POSTGRES_USER"],
        f"/{server['POSTGRES_DB']}",
    )
    assert urlsplit(node["environment"]["CASVC_REDIS__URL"]).hostname in services
    # By TCP: while its image makes the database, PostgreSQL answers on a socket, and is not ready.
    assert "--host=127.0.0.1" in services["postgres"]["healthcheck"]["test"]
    (user,) = re.findall(r"^USER (\d+):", CONTAINERFILE, re.MULTILINE)
    users = {
        "ca-service": user,
        **{n: s["user"].partition(":")[0] for n, s in services.items() if "user" in s},
    }
    owners = {
        place.rpartition("/")[2]: owner for owner, place in re.findall(r"-o (\d+) \S+ (secrets/\w+)", HEAD)
    }
    for name, service in services.items():
        for secret in service.get("secrets", ()):
            assert loaded["secrets"][secret]["file"] == f"./secrets/{secret}"
            assert owners[secret] == users.get(name, user), secret
    assert re.findall(r"-o (\d+) key\.pem tls/", HEAD) == [users["nginx"]]
    assert {
        str(pod(name)["securityContext"]["runAsUser"]) for name in ("ca-service", "ca-service-migrate")
    } == {user}
    assert str(pod("ca-service-nginx")["securityContext"]["runAsUser"]) == users["nginx"]
    for variable in re.findall(r"\bexport (.+)$", HEAD, re.MULTILINE):
        for word in shlex.split(variable):
            assert f"${{{word.partition('=')[0]}:-" in COMPOSE


def test_nothing_is_cut_off_before_it_is_finished(tmp_path: Path) -> None:
    (tmp_path / "ca.toml").write_text(settings_file(EXAMPLE))
    graceful = load_settings(tmp_path / "ca.toml", {}).server.graceful_timeout_seconds
    spec = pod("ca-service")
    waits = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > waits + graceful
    assert int(compose()["services"]["ca-service"]["stop_grace_period"].removesuffix("s")) > graceful
    unit = (DEPLOY / "systemd" / "ca-service.service").read_text()
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > graceful


def test_what_nginx_writes_in_a_container_has_room_or_an_end() -> None:
    """A log in a folder of limited size fills it; a pod that exceeds its limit is evicted."""
    (proxy,) = pod("ca-service-nginx")["containers"]
    scripts = [proxy["command"][-1], compose()["services"]["nginx"]["command"][-1]]
    logs = set(re.findall(r"access_log (\S+)", (DEPLOY / "nginx" / "ca-service.conf").read_text()))
    assert len(logs) == 1
    for script in scripts:
        for log, to in (*((log, "/dev/stdout") for log in logs), ("/var/log/nginx/error.log", "/dev/stderr")):
            assert f"ln -sf {to} {log}\n" in script
        assert script.endswith('exec nginx -g "daemon off;"')
