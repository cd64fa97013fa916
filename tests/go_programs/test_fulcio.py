"""Fulcio itself, asked what this service is asked: it gives the same identities and the same answers."""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca_service.errors import CAError
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.principal import principal_for
from tests.support.fulcio import SIGNING, Fulcio, key_request, running_fulcio
from tests.support.issuer import LocalIssuer
from tests.support.pki import issue
from tests.support.processes import RunningService
from tests.support.signing import new_key
from tests.support.tokens import TokenDesk
from tests.vectors.identity.reading import ARC, SUBJECT_ALTERNATIVE_NAME, subject_and_fulcio
from tests.vectors.test_identity import CASES

SHIPPED = Path(__file__).parents[2] / "config" / "issuers.yaml"
EMAIL = "same-as-fulcio@example.com"
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

REFUSED_HERE_ALONE = {
    "chainguard: a way up": "a subject that leaves the issuer's URL",
    "circleci: no definition": "a subject with a part that is empty: two pipelines would be one",
    "github: an object": "Go's notation for an object in a certificate",
    "github: a list": "Go's notation for a list in a certificate",
    "gitlab: no configuration": "the subject https://<nil>",
    "kubernetes: no account": "a subject without an account",
    "kubernetes: no claim of its own": "a subject without an account",
}
"""What Fulcio certifies and this service does not, and what that would be."""

WRITTEN_OTHERWISE = {
    # Fulcio reads numbers as floats, 9.007199254740991e+15, and writes null as Go does, <nil>.
    "github: identifiers as numbers and a visibility as boolean, an environment that is null": {
        f"{ARC}21",
        f"{ARC}23",
    },
    # %41 stays %41; Fulcio makes A of it where something else in the URL has to be encoded.
    "github: a branch beyond ASCII, percent-encoded in the subject alone": {SUBJECT_ALTERNATIVE_NAME},
}


def plain(url: str) -> str:
    """An issuer's URL in http: Fulcio asks the proxy for it, and no TLS is in the way."""
    return url.replace("https://", "http://", 1)


class Providers(LocalIssuer):
    """An HTTP proxy that answers for every provider, with one key."""

    def __init__(self) -> None:
        super().__init__()
        issuer, slashed = self, {plain(case["issuer"]) for _, case in CASES if case["issuer"].endswith("/")}

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                named = self.path.removesuffix("/.well-known/openid-configuration")
                named = f"{named}/" if f"{named}/" in slashed else named
                host = f"http://{urlsplit(self.path).netloc}"
                discovered = issuer.discovery() | {"issuer": named, "jwks_uri": f"{host}/keys"}
                document = {"keys": [issuer.jwk()]} if self.path == f"{host}/keys" else discovered
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                pass

        self.server.RequestHandlerClass = Answer

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self


def issuers_in(text: str) -> dict[str, Any]:
    """An issuer file with its issuers in http, and those of the vectors that it lacks."""
    content: dict[str, Any] = yaml.safe_load(text)
    for kind in ("oidc-issuers", "meta-issuers"):
        content[kind] = {
            plain(url): {
                name: plain(value) if name == "issuer-url" else value for name, value in members.items()
            }
            for url, members in content[kind].items()
        }
    for _, case in CASES:
        if case["members"]:
            url = plain(case["issuer"])
            members = {name: plain(value) for name, value in case["members"].items()}
            content["oidc-issuers"][url] = {"issuer-url": url, "client-id": "sigstore", **members}
    return content


@pytest.fixture(scope="module", params=["ours", "Fulcio's"])
def issuer_file(request: pytest.FixtureRequest) -> str:
    """The issuer file as it is shipped here, and the one that Fulcio's module has."""
    if request.param == "ours":
        return yaml.safe_dump(issuers_in(SHIPPED.read_text()), sort_keys=False)
    place = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True)
    (module,) = Path(place.stdout.strip(), "github.com", "sigstore").glob("fulcio@v1.8.8")
    file = module / "config" / "identity" / "config.yaml"
    return yaml.safe_dump(issuers_in(file.read_text()), sort_keys=False)


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    with Providers() as started:
        yield started


@pytest.fixture(scope="module")
def fulcio(
    programs: Path, providers: Providers, issuer_file: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fulcio]:
    folder = tmp_path_factory.mktemp("fulcio")
    through = {"HTTP_PROXY": providers.url, "http_proxy": providers.url}
    with running_fulcio(programs / "fulcio", folder, issuer_file, through) as started:
        yield started


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(f"{provider}: {case['name']}", case, id=f"{provider}: {case['name']}")
        for provider, case in CASES
    ],
)
def test_an_identity_is_the_same_octet_for_octet(
    fulcio: Fulcio, providers: Providers, issuer_file: str, name: str, case: Mapping[str, Any]
) -> None:
    issuer_url = plain(case["issuer"])
    issuer = parse_issuer_file(issuer_file, "issuers").find(issuer_url)
    claims = {**case["claims"], "iss": issuer_url}
    if case["members"].get("type") == "uri":
        claims["sub"] = plain(claims["sub"])
    now = int(time.time())
    token = providers.sign({"aud": "sigstore", **claims, "iat": now, "exp": now + 600})
    asked = "email" if issuer and issuer.challenge == "email" else "sub"
    challenge = plain(case.get("challenges", [str(claims.get(asked))])[0])
    proof = KEY.sign(challenge.encode(), ec.ECDSA(hashes.SHA256()))
    theirs = fulcio.certificate(key_request(token, PEM, proof))
    if issuer is None:
        assert theirs is None
        return
    try:
        principal = principal_for(VerifiedToken(issuer, issuer_url, VerifiedClaims(claims)))
    except CAError:
        assert (theirs is not None) == (name in REFUSED_HERE_ALONE)
        return
    assert theirs is not None
    ours = issue(subject=principal.subject, extensions=principal.extensions).der
    found = []
    for certificate in (theirs, ours):
        subject, extensions = subject_and_fulcio(certificate)
        found.append({SUBJECT_ALTERNATIVE_NAME: subject, **extensions})
    differing = {oid for oid in {*found[0], *found[1]} if found[0].get(oid) != found[1].get(oid)}
    assert differing == WRITTEN_OTHERWISE.get(name, set())


# -- the same requests to both ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def same_issuer(
    programs: Path, service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fulcio]:
    """A Fulcio that believes whom the shared service believes."""
    url = f"{service.url}/dev-idp"
    file = {"oidc-issuers": {url: {"issuer-url": url, "client-id": "sigstore", "type": "email"}}}
    with running_fulcio(
        programs / "fulcio", tmp_path_factory.mktemp("same"), yaml.safe_dump(file)
    ) as started:
        yield started


def proof(message: str = EMAIL, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    return KEY.sign(message.encode(), ec.ECDSA(algorithm or hashes.SHA256()))


def csr(name: str | None = None) -> bytes:
    subject = [] if name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


Body = dict[str, Any]


def with_key(token: str, *, proven: str | None = None, **members: Any) -> Body:
    body = key_request(token, PEM, proof())
    body["publicKeyRequest"]["publicKey"] |= members
    if proven is not None:
        body["publicKeyRequest"]["proofOfPossession"] = proven
    return body


def with_csr(token: str, request: str) -> Body:
    return {"credentials": {"oidcIdentityToken": token}, "certificateSigningRequest": request}


def another_key(kind: str) -> Callable[[str], Body]:
    def body(token: str) -> Body:
        key = new_key(kind)
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return with_key(token, content=pem)  # the proof is not of this key

    return body


REQUESTS: Mapping[str, Callable[[str], Any]] = {
    "as clients send it": with_key,
    "snake case": lambda token: {
        "credentials": {"oidc_identity_token": token},
        "public_key_request": {"public_key": {"content": PEM}, "proof_of_possession": b64(proof())},
    },
    "unknown members": lambda token: {**with_key(token), "more": {"of": ["them"]}},
    "algorithm by number": lambda token: with_key(token, algorithm=2),
    "no algorithm": lambda token: with_key(token, algorithm=None),
    "algorithm unknown": lambda token: with_key(token, algorithm="RSA"),
    "key in DER": lambda token: with_key(token, content=b64(b"\x30\x00")),
    "key empty": lambda token: with_key(token, content=""),
    "key with text before": lambda token: with_key(token, content=f"a key\n{PEM}"),
    "key in CR LF": lambda token: with_key(token, content=PEM.replace("\n", "\r\n")),
    "another key": another_key("ecdsa-p256"),
    "proof of something else": lambda token: with_key(token, proven=b64(proof("something else"))),
    "proof by another hash": lambda token: with_key(token, proven=b64(proof(algorithm=hashes.SHA384()))),
    "proof in URL-safe base64": lambda token: with_key(
        token, proven=base64.urlsafe_b64encode(proof()).decode()
    ),
    "proof unpadded": lambda token: with_key(token, proven=b64(proof()).rstrip("=")),
    "proof missing": lambda token: with_key(token, proven=""),
    "proof not in base64": lambda token: with_key(token, proven="***"),
    "CSR": lambda token: with_csr(token, b64(csr())),
    "CSR with a name": lambda token: with_csr(token, b64(csr("Ada"))),
    "CSR as text": lambda token: with_csr(token, csr().decode()),
    "CSR of nothing": lambda token: with_csr(token, b64(b"nothing")),
    "CSR and key": lambda token: {**with_key(token), "certificateSigningRequest": b64(csr())},
    "CSR null beside a key": lambda token: {**with_key(token), "certificateSigningRequest": None},
    "neither": lambda token: {"credentials": {"oidcIdentityToken": token}},
    "no token": lambda token: {**with_key(token), "credentials": None},
    "token of two parts": lambda token: with_key(token.rpartition(".")[0]),
    "token without a signature": lambda token: with_key(token.rpartition(".")[0] + "."),
    "token with its line": lambda token: with_key(f"{token}\n"),
    "token with Bearer": lambda token: with_key(f"Bearer {token}"),
    "an array": lambda token: [token],
    "a text": lambda token: token,
    "nothing": lambda _token: {},
}


def answers(reply: requests.Response) -> tuple[int, Any, str]:
    """What a client sees of an answer: status, gRPC code, media type."""
    is_json = reply.headers["Content-Type"].startswith("application/json")
    code = reply.json().get("code") if is_json else None
    return reply.status_code, code, reply.headers["Content-Type"].partition(";")[0]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_alike(
    same_issuer: Fulcio, service: RunningService, tokens: TokenDesk, name: str
) -> None:
    body = REQUESTS[name](tokens.token(EMAIL))
    theirs, ours = (
        requests.post(f"{url}{SIGNING}", json=body, timeout=60) for url in (same_issuer.url, service.url)
    )
    assert answers(ours) == answers(theirs), (ours.text, theirs.text)


CLAIMS: Mapping[str, dict[str, Any]] = {
    "audience in a list": {"aud": ["sigstore"]},
    "two audiences": {"aud": ["sigstore", "another"]},
    "no audience": {"aud": None},
    "another audience": {"aud": "another"},
    "another issuer": {"iss": "http://127.0.0.1:1/dev-idp"},
    "a slash after the issuer": {"iss": "/"},
    "no issuer": {"iss": None},
    "no expiry": {"exp": None},
    "expired": {"exp": 1_700_000_000},
    "not yet valid": {"nbf": 40_000_000_000},
    "address verified as text": {"email_verified": "true"},
    "address not verified": {"email_verified": False},
    "nothing said of the address": {"email_verified": None},
    "no address": {"email": None},
    "an empty address": {"email": ""},
    "an address with capitals": {"email": "Same-As-Fulcio@Example.COM"},
    "no address at all": {"email": "ada"},
    "an address with a name": {"email": "Ada <ada@example.com>"},
    "an address beyond ASCII": {"email": "\u00e4@example.com"},
    "a line in the address": {"email": "ada@example.com\n"},
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_token_is_judged_alike(
    same_issuer: Fulcio, service: RunningService, tokens: TokenDesk, name: str
) -> None:
    claims = dict(CLAIMS[name])
    if claims.get("iss") == "/":
        claims["iss"] = f"{service.url}/dev-idp/"
    token = tokens.mint(EMAIL, claims=claims)
    body = key_request(token, PEM, proof(claims.get("email") or EMAIL))
    theirs, ours = (
        requests.post(f"{url}{SIGNING}", json=body, timeout=60) for url in (same_issuer.url, service.url)
    )
    assert answers(ours) == answers(theirs), (ours.text, theirs.text)


@pytest.mark.parametrize(
    "path", ["/api/v2/configuration", "/api/v2/trustBundle", "/api/v1/rootCert", "/healthz"]
)
def test_what_anybody_may_read_has_the_same_form(
    same_issuer: Fulcio, service: RunningService, path: str
) -> None:
    theirs, ours = (requests.get(f"{url}{path}", timeout=60) for url in (same_issuer.url, service.url))
    assert answers(ours) == answers(theirs)
    if path == "/api/v2/configuration":
        by_url = {each["issuerUrl"]: each for each in ours.json()["issuers"]}
        (issuer,) = theirs.json()["issuers"]
        assert by_url[issuer["issuerUrl"]] == issuer
    elif path == "/api/v2/trustBundle":
        assert list(ours.json()) == list(theirs.json())
        assert [set(chain) for chain in ours.json()["chains"]] == [{"certificates"}]
    elif path == "/healthz":
        assert ours.json() == theirs.json()
