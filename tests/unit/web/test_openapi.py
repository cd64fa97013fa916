"""The OpenAPI document says what the service does: its routes, their answers, their errors."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from ca_service.web.openapi import document
from tests.unit.web.conftest import World

ROOT = Path(__file__).resolve().parents[3]


def described(path: str, method: str, status: int) -> tuple[dict[str, Any], Draft202012Validator | None]:
    """The description of one answer, and what checks its JSON body."""
    whole: dict[str, Any] = json.loads(json.dumps(document()))
    response = whole["paths"][path][method]["responses"][str(status)]
    if "$ref" in response:
        response = whole["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return response, None
    return response, Draft202012Validator({**schema, "components": whole["components"]})


def test_the_document_is_valid_openapi_31() -> None:
    validate(json.loads(json.dumps(document())))


def test_every_route_is_described_and_every_description_is_a_route(world: World) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in world.app().url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    paths: dict[str, Any] = document()["paths"]  # type: ignore[assignment] # a plain JSON object
    assert routes == {
        (path, method) for path, item in paths.items() for method in item if method != "parameters"
    }


def test_every_path_parameter_is_declared() -> None:
    paths: dict[str, Any] = document()["paths"]  # type: ignore[assignment] # a plain JSON object
    for path, item in paths.items():
        declared = {each["name"] for each in item.get("parameters", []) if each["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))


def test_operation_ids_are_unique() -> None:
    paths: dict[str, Any] = document()["paths"]  # type: ignore[assignment] # a plain JSON object
    names = [
        call["operationId"] for item in paths.values() for key, call in item.items() if key != "parameters"
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("path", "url", "status"),
    [
        ("/api/v2/trustBundle", None, 200),
        ("/api/v2/configuration", None, 200),
        ("/ctlog/{shard}/ct/v1/get-sth", "/ctlog/2026/ct/v1/get-sth", 200),
        ("/ctlog/{shard}/ct/v1/get-roots", "/ctlog/2026/ct/v1/get-roots", 200),
        ("/ctlog/{shard}/ct/v1/get-entries", "/ctlog/2026/ct/v1/get-entries?start=0&end=2", 200),
        ("/ctlog/{shard}/ct/v1/get-entries", "/ctlog/2026/ct/v1/get-entries?start=2&end=0", 400),
        ("/ctlog/{shard}/ct/v1/get-sth", "/ctlog/none/ct/v1/get-sth", 404),
        ("/crl/index.json", None, 200),
        ("/crl/{key_id}/{shard}.crl", "/crl/00/root.crl", 404),
        ("/trust/trusted_root.json", None, 200),
        ("/trust/signing_config.json", None, 404),
        ("/healthz", None, 200),
        ("/readyz", None, 200),
        ("/openapi.json", None, 200),
    ],
)
def test_answers_have_the_described_shape(
    client: FlaskClient, path: str, url: str | None, status: int
) -> None:
    reply = client.get(url or path)
    assert reply.status_code == status
    _, shape = described(path, "get", status)
    assert shape is not None
    shape.validate(reply.get_json())


def test_an_issued_chain_has_the_described_shape(client: FlaskClient) -> None:
    body = {"credentials": {"oidcIdentityToken": "a.b.c"}, "certificateSigningRequest": "AAAA"}
    _, shape = described("/api/v2/signingCert", "post", 200)
    assert shape is not None
    shape.validate(client.post("/api/v2/signingCert", json=body).get_json())


def test_the_served_document_is_the_one_that_is_built(client: FlaskClient) -> None:
    assert client.get("/openapi.json").get_json() == json.loads(json.dumps(document()))


def test_further_paths_join_the_document() -> None:
    paths: dict[str, Any] = document({"/admin/v1/blocks": {"get": {}}})["paths"]  # type: ignore[assignment] # JSON
    assert {"/admin/v1/blocks", "/healthz"} <= paths.keys()


def test_the_checked_in_reference_is_up_to_date() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate-openapi", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr[:2000]
