"""A body that is not what a signing call takes: the member at fault is named, and nothing goes further."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.unit.web.conftest import World
from tests.unit.web.test_fulcio import BEARER, PEM, V1, V2, public_key_request

NESTED = b'{"a":' * 10_000
KEY = json.dumps(public_key_request()).encode()

MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the body must be JSON"),
    "not JSON": (b"{", "line 1 column 2"),
    "not UTF-8": (b'{"a":"\xff"}', "not UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "the body must be JSON"),
    "a list": (b"[]", "must be a JSON object, not a list"),
    "null": (b"null", "must be a JSON object, not null"),
    "nested too deeply": (NESTED, "nested too deeply"),
    "lists nested too deeply": (b"[" * 60_000, "nested too deeply"),
    "NaN": (b'{"a":NaN}', "no NaN"),
    "Infinity": (b'{"a":-Infinity}', "no -Infinity"),
    "a huge number": (b'{"a":' + b"1" * 10_000 + b"}", "number in it is too long"),
    "a member twice": (b'{"a":1,"a":2}', "member a occurs twice"),
    "a strange member twice": (b'{"a b\\n":1,"a b\\n":2}', "a member occurs twice"),
    "both spellings": (
        b'{"publicKeyRequest":' + KEY + b',"public_key_request":' + KEY + b"}",
        "publicKeyRequest is given twice",
    ),
    "no key": (b"{}", "must have certificateSigningRequest or publicKeyRequest"),
    "both keys": (
        b'{"certificateSigningRequest":"AAAA","publicKeyRequest":' + KEY + b"}",
        "either certificateSigningRequest or publicKeyRequest",
    ),
    "request is a list": (b'{"publicKeyRequest":[]}', "publicKeyRequest must be an object, not a list"),
    "key is text": (
        b'{"publicKeyRequest":{"publicKey":"x"}}',
        "publicKeyRequest.publicKey must be an object",
    ),
    "no content": (b'{"publicKeyRequest":{"publicKey":{}}}', "publicKeyRequest.publicKey.content must hold"),
    "content is a number": (
        b'{"publicKeyRequest":{"publicKey":{"content":1}}}',
        "publicKeyRequest.publicKey.content must be a string, not a number",
    ),
    "no proof": (
        b'{"publicKeyRequest":{"publicKey":{"content":"x"}}}',
        "publicKeyRequest.proofOfPossession is missing",
    ),
    "proof is not base64": (
        b'{"publicKeyRequest":{"publicKey":{"content":"x"},"proofOfPossession":"A!"}}',
        "publicKeyRequest.proofOfPossession must be base64",
    ),
    "base64 of no octets": (
        b'{"certificateSigningRequest":"AAAAA"}',
        "certificateSigningRequest must be base64",
    ),
    "base64 with padding inside": (
        b'{"certificateSigningRequest":"AA==AAAA"}',
        "certificateSigningRequest must be base64",
    ),
    "nothing but padding": (
        b'{"certificateSigningRequest":"=="}',
        "certificateSigningRequest must be base64",
    ),
    "too much padding": (
        b'{"certificateSigningRequest":"AAA=="}',
        "certificateSigningRequest must be base64",
    ),
    "base64 of other digits": (
        '{"certificateSigningRequest":"\u0661\u0661\u0661\u0661"}'.encode(),
        "certificateSigningRequest must be base64",
    ),
    "CSR is true": (b'{"certificateSigningRequest":true}', "must be a string, not a boolean"),
    "credentials are text": (b'{"credentials":"x"}', "credentials must be an object, not a string"),
    "token is an object": (
        b'{"credentials":{"oidcIdentityToken":{}}}',
        "credentials.oidcIdentityToken must be a string, not an object",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_body_is_named(client: FlaskClient, world: World, case: str) -> None:
    body, sentence = MALFORMED[case]
    reply = client.post(V2, data=body, headers=BEARER)
    assert reply.status_code == 400
    problem = reply.get_json()
    assert sentence in problem["message"]
    assert problem["code"] == 3
    assert problem["details"][0]["reason"] == "malformed-request"
    assert world.issuance.asked == []
    assert world.faults == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "must have certificateSigningRequest or publicKey"),
        ({"publicKey": {"content": "AAAA"}}, "signedEmailAddress is missing"),
        ({"publicKey": {}, "signedEmailAddress": "AAAA"}, "publicKey.content is missing"),
        ({"publicKey": {"content": PEM}, "signedEmailAddress": "AAAA"}, "publicKey.content must be base64"),
        (
            {"publicKey": {"content": "AAAA"}, "certificateSigningRequest": "AAAA"},
            "either certificateSigningRequest or publicKey",
        ),
    ],
)
def test_a_malformed_legacy_body_is_named(client: FlaskClient, body: dict[str, Any], sentence: str) -> None:
    reply = client.post(V1, json=body, headers=BEARER)
    assert reply.status_code == 400
    assert sentence in reply.get_json()["message"]
