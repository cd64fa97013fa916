"""Which tokens are believed, and what is said of those that are not."""

import hashlib
import hmac
import json
import tracemalloc
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ca_service.errors import (
    CAError,
    IssuerUnavailable,
    TokenAlgorithmRefused,
    TokenAudienceMismatch,
    TokenClaimInvalid,
    TokenClaimMissing,
    TokenExpired,
    TokenIssuerUnknown,
    TokenKeyRefused,
    TokenKeyUnknown,
    TokenMalformed,
    TokenNotYetValid,
    TokenSignatureInvalid,
)
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import IssuerDirectory
from ca_service.oidc.verifier import TokenVerifier
from tests.unit.oidc.issuer import NOW, URL, Key, Provider, b64, directory, jwk, sign

RSA_KEY = rsa.generate_private_key(65537, 2048)


def verifier(provider: Provider, known: IssuerDirectory | None = None) -> TokenVerifier:
    known = known or directory()
    return TokenVerifier(lambda: known, provider.fetch, provider.clock)


def refusal(provider: Provider, token: str, known: IssuerDirectory | None = None) -> CAError:
    """The error a token meets; whatever it is, it must not repeat the token or personal claims."""
    with pytest.raises(CAError) as raised:
        verifier(provider, known).verify(token)
    told = f"{raised.value.message} {raised.value.facts}"
    assert {"expected", "received"} <= raised.value.facts.keys() or isinstance(
        raised.value, IssuerUnavailable
    )
    assert "someone@example.com" not in told
    assert all(part not in told for part in token.split(".") if len(part) > 20)
    assert "Traceback" not in told
    return raised.value


def test_a_good_token_yields_its_claims_and_its_issuer() -> None:
    provider = Provider()
    verified = verifier(provider).verify(provider.token())
    assert verified.issuer_url == URL
    assert verified.issuer.client_id == "sigstore"
    assert verified.claims["email"] == "someone@example.com"


KEYS: dict[str, Callable[[], Key]] = {
    "RS256": lambda: RSA_KEY,
    "RS384": lambda: RSA_KEY,
    "RS512": lambda: RSA_KEY,
    "PS256": lambda: RSA_KEY,
    "PS384": lambda: RSA_KEY,
    "PS512": lambda: RSA_KEY,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_every_listed_algorithm_is_verified(algorithm: str) -> None:
    provider = Provider()
    provider.key, provider.algorithm = KEYS[algorithm](), algorithm
    provider.published = [jwk(provider.key, "first", use="sig", alg=algorithm)]
    assert verifier(provider).verify(provider.token()).issuer_url
    token = provider.token()
    forged = token[:-8] + ("AAAAAAAA" if token[-8:] != "AAAAAAAA" else "BBBBBBBB")
    assert isinstance(refusal(provider, forged), TokenSignatureInvalid | TokenMalformed)


def hs256_with_the_public_key(provider: Provider) -> str:
    """The old trick: the verifier's public key as if it were a shared secret."""
    secret = provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = b64(json.dumps({"alg": "HS256", "kid": "first"}).encode())
    message = f"{head}.{b64(json.dumps(provider.claims()).encode())}"
    return f"{message}.{b64(hmac.new(secret, message.encode(), hashlib.sha256).digest())}"


def unsigned(provider: Provider) -> str:
    head = b64(json.dumps({"alg": "none", "kid": "first"}).encode())
    return f"{head}.{b64(json.dumps(provider.claims()).encode())}."


def altered(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    return f"{head}.{b64(json.dumps(provider.claims(sub='root')).encode())}.{signature}"


def with_payload(payload: bytes) -> Callable[[Provider], str]:
    return lambda provider: provider.signed(payload)


def with_header(**header: object) -> Callable[[Provider], str]:
    return lambda provider: provider.token(header)


def with_claims(**claims: object) -> Callable[[Provider], str]:
    return lambda provider: provider.token(**claims)


def twice_the_same_claim(provider: Provider) -> str:
    body = json.dumps(provider.claims())
    return provider.signed(f'{{"sub":"root",{body[1:]}'.encode())


def twice_the_same_header(provider: Provider) -> str:
    head = b64(b'{"alg":"none","alg":"ES256","kid":"first"}')
    message = f"{head}.{b64(json.dumps(provider.claims()).encode())}"
    return f"{message}.{b64(sign(provider.key, 'ES256', message.encode()))}"


DEEP = b'{"iss":"https://idp.example.com","a":' + b"[" * 3000 + b"]" * 3000 + b"}"

REFUSED: dict[str, tuple[Callable[[Provider], str], type[CAError], str]] = {
    "empty": (lambda _: "", TokenMalformed, "0 dots"),
    "one part": (lambda _: "abc", TokenMalformed, "0 dots"),
    "encrypted": (lambda _: "a.b.c.d.e", TokenMalformed, "4 dots"),
    "thousands of dots": (lambda _: "." * 9999, TokenMalformed, "9999 dots"),
    "megabytes": (lambda _: "a" * 3_000_000, TokenMalformed, "3000000 characters"),
    "not ASCII": (lambda _: "é.é.é", TokenMalformed, "ASCII"),
    "header not base64url": (lambda p: "+" + p.token()[1:], TokenMalformed, "header"),
    "padded": (lambda p: p.token() + "=", TokenMalformed, "signature"),
    "standard base64": (lambda p: p.token().replace(".", ".+", 1), TokenMalformed, "payload"),
    "payload not JSON": (with_payload(b"nonsense"), TokenMalformed, "JSON"),
    "payload a list": (with_payload(b"[1]"), TokenMalformed, "object"),
    "payload not UTF-8": (with_payload(b'{"iss":"\xff"}'), TokenMalformed, "UTF-8"),
    "a lone surrogate": (with_payload(b'{"iss":"\\ud800"}'), TokenMalformed, "UTF-8"),
    "NaN": (with_payload(b'{"exp":NaN}'), TokenMalformed, "NaN"),
    "a number of 5000 digits": (with_payload(b'{"exp":' + b"9" * 5000 + b"}"), TokenMalformed, "payload"),
    "deep nesting": (with_payload(DEEP), TokenMalformed, "too many"),
    "a claim twice": (twice_the_same_claim, TokenMalformed, "twice"),
    "a header member twice": (twice_the_same_header, TokenMalformed, "twice"),
    "crit": (with_header(crit=["b64"], b64=False), TokenMalformed, "crit"),
    "no alg": (with_header(alg=None), TokenAlgorithmRefused, "alg"),
    "alg a number": (with_header(alg=1), TokenAlgorithmRefused, "alg"),
    "alg none": (unsigned, TokenAlgorithmRefused, "none"),
    "alg none, and no kid": (with_header(alg="none", kid=None), TokenAlgorithmRefused, "none"),
    "HS256 with the public key": (hs256_with_the_public_key, TokenAlgorithmRefused, "HS256"),
    "alg a sentence": (with_header(alg="private text"), TokenAlgorithmRefused, "an unknown algorithm"),
    "secp256k1": (with_header(alg="ES256K"), TokenAlgorithmRefused, "ES256K"),
    "no kid": (with_header(kid=None), TokenKeyUnknown, "kid"),
    "kid a list": (with_header(kid=["first"]), TokenMalformed, "kid"),
    "unknown kid": (with_header(kid="other"), TokenKeyUnknown, "does not publish"),
    "another algorithm than the key's": (with_header(alg="RS256"), TokenKeyRefused, "ES256"),
    "altered": (altered, TokenSignatureInvalid, '"first"'),
    "no iss": (with_claims(iss=None), TokenClaimMissing, "iss"),
    "iss a list": (with_claims(iss=[URL]), TokenMalformed, "iss"),
    "unknown issuer": (with_claims(iss="https://other.example"), TokenIssuerUnknown, "https://other.example"),
    "issuer with a slash": (with_claims(iss=URL + "/"), TokenIssuerUnknown, "issuer file"),
    "issuer in other case": (with_claims(iss=URL.upper()), TokenIssuerUnknown, "issuer file"),
    "no audience": (with_claims(aud=None), TokenClaimMissing, "sigstore"),
    "an empty list of audiences": (with_claims(aud=[]), TokenClaimMissing, "sigstore"),
    "audience a number": (with_claims(aud=7), TokenClaimInvalid, "aud"),
    "audiences not all strings": (with_claims(aud=["sigstore", 7]), TokenClaimInvalid, "aud"),
    "another audience": (with_claims(aud="kubernetes"), TokenAudienceMismatch, '"kubernetes"'),
    "part of the audience": (with_claims(aud="sigstor"), TokenAudienceMismatch, '"sigstore"'),
    "no exp": (with_claims(exp=None), TokenClaimMissing, "exp"),
    "exp a string": (with_claims(exp=str(NOW + 600)), TokenClaimInvalid, "a string"),
    "exp a boolean": (with_claims(exp=True), TokenClaimInvalid, "a boolean"),
    "exp absurd": (with_claims(exp=10**30), TokenClaimInvalid, "1970 and 9999"),
    "exp huge": (with_claims(exp=1e300), TokenClaimInvalid, "1970 and 9999"),
    "exp infinite": (
        with_payload(b'{"iss":"https://idp.example.com","aud":"sigstore","exp":1e999}'),
        TokenClaimInvalid,
        "1970 and 9999",
    ),
    "exp in ten years": (with_claims(exp=NOW + 3650 * 86400), TokenClaimInvalid, "400 days"),
    "exp now": (with_claims(exp=NOW), TokenExpired, "2027-01-15T08:00:00Z"),
    "iat ahead": (with_claims(iat=NOW + 31), TokenNotYetValid, "2027-01-15T08:00:31Z"),
    "nbf ahead": (with_claims(nbf=NOW + 31), TokenNotYetValid, "'nbf'"),
    "nbf a list": (with_claims(nbf=[]), TokenClaimInvalid, "a list"),
    "no sub": (with_claims(sub=None), TokenClaimMissing, "sub"),
    "empty sub": (with_claims(sub=""), TokenClaimMissing, "sub"),
    "sub a number": (with_claims(sub=1), TokenClaimInvalid, "a number"),
    "auth_time a string": (with_claims(auth_time="now"), TokenClaimInvalid, "auth_time"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_refusal_names_the_check_and_what_came(case: str) -> None:
    provider = Provider()
    make, error, says = REFUSED[case]
    refused = refusal(provider, make(provider))
    assert type(refused) is error, refused.message
    assert says in refused.message
    told = f"{refused.message} {refused.facts}"
    assert not any(text in told for text in ("private text", "other'", '"other"', "1234", str(NOW)))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["sigstore", "kubernetes"]},
        {"iat": NOW + 30, "nbf": NOW + 30},
        {"iat": None},
        {"exp": NOW + 1},
        {"exp": NOW + 0.5},
        {"azp": "somebody-else"},
        {"amr": "pwd"},
        {"at_hash": "x", "nonce": "y", "jti": "z"},
        {"groups": ["a"] * 50},
        {"name": "Ünïcødé 🙂"},
    ],
)
def test_what_fulcio_accepts_is_accepted(claims: dict[str, object]) -> None:
    provider = Provider()
    assert verifier(provider).verify(provider.token(**claims)).issuer_url


def test_expiry_has_no_leeway_and_says_both_times() -> None:
    provider = Provider()
    refused = refusal(provider, provider.token(exp=NOW - 1))
    assert isinstance(refused, TokenExpired)
    assert refused.facts == {
        "claim": "exp",
        "expected": "later than 2027-01-15T08:00:00Z",
        "received": "2027-01-15T07:59:59Z",
        "now": "2027-01-15T08:00:00Z",
    }


def test_an_issuer_may_insist_on_being_the_only_audience() -> None:
    provider = Provider()
    strict = directory("strict-audience: true")
    assert verifier(provider, strict).verify(provider.token(aud=["sigstore"])).issuer_url
    refused = refusal(provider, provider.token(aud=["sigstore", "kubernetes"]), strict)
    assert isinstance(refused, TokenAudienceMismatch)
    assert refused.facts["expected"] == "sigstore alone"
    assert refused.facts["received"] == '["sigstore", "kubernetes"]'


def test_an_issuer_may_narrow_the_algorithms() -> None:
    provider = Provider()
    refused = refusal(provider, provider.token(), directory("algorithms: [RS256]"))
    assert isinstance(refused, TokenAlgorithmRefused)
    assert refused.facts == {"expected": "RS256", "received": "ES256"}
    assert provider.fetched == []


def test_strangers_cause_no_request() -> None:
    provider = Provider()
    for token in (
        provider.token(iss="https://evil.example"),
        unsigned(provider),
        "." * 9999,
        altered(provider)[:-5],
    ):
        with pytest.raises(CAError):
            TokenVerifier(
                lambda: directory(url="https://other.example"), provider.fetch, provider.clock
            ).verify(token)
    assert provider.fetched == []


def test_thousands_of_dots_cost_nothing() -> None:
    provider = Provider()
    tested = verifier(provider)
    tokens = ("." * 10_000_000, "." * 16_000, "a." * 8_000)
    tracemalloc.start()
    try:
        for token in tokens:
            with pytest.raises(TokenMalformed):
                tested.verify(token)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000, "octets: the token was taken apart, dot by dot"


def test_a_key_published_twice_under_one_id_is_tried_both_times() -> None:
    provider = Provider()
    other = ec.generate_private_key(ec.SECP256R1())
    provider.published = [jwk(other, "first"), jwk(provider.key, "first")]
    assert verifier(provider).verify(provider.token()).issuer_url


def test_keys_that_are_built_in_need_no_network() -> None:
    provider = Provider()
    tested = TokenVerifier(
        directory, provider.fetch, provider.clock, built_in_keys={URL: {"keys": [jwk(provider.key, "first")]}}
    )
    assert tested.verify(provider.token()).issuer_url
    with pytest.raises(TokenKeyUnknown):
        tested.verify(provider.token({"kid": "other"}))
    assert provider.fetched == []


def test_a_wildcard_issuer_is_asked_under_the_url_of_the_token() -> None:
    provider = Provider("https://oidc.example.com/id/abc")
    known = parse_issuer_file(
        "meta-issuers:\n  https://oidc.example.com/id/*:\n    client-id: sigstore\n    type: email\n", "t"
    )
    verified = verifier(provider, known).verify(provider.token())
    assert verified.issuer_url == "https://oidc.example.com/id/abc"
    assert verified.issuer.issuer_url == "https://oidc.example.com/id/*"
    assert provider.fetched == [
        "https://oidc.example.com/id/abc/.well-known/openid-configuration",
        "https://oidc.example.com/id/abc/keys",
    ]


DISCOVERY_FAULTS: dict[str, dict[str, object]] = {
    "another issuer": {"issuer": "https://evil.example", "jwks_uri": URL + "/keys"},
    "the issuer with a slash": {"issuer": URL + "/", "jwks_uri": URL + "/keys"},
    "no issuer": {"jwks_uri": URL + "/keys"},
    "no jwks_uri": {"issuer": URL},
    "keys over plain http": {"issuer": URL, "jwks_uri": "http://idp.example.com/keys"},
    "keys in a file": {"issuer": URL, "jwks_uri": "file:///etc/passwd"},
    "jwks_uri a list": {"issuer": URL, "jwks_uri": [URL]},
}


@pytest.mark.parametrize("fault", sorted(DISCOVERY_FAULTS))
def test_a_discovery_document_that_is_wrong_gives_no_keys(fault: str) -> None:
    provider = Provider()
    provider.discovery = DISCOVERY_FAULTS[fault]
    refused = refusal(provider, provider.token())
    assert isinstance(refused, IssuerUnavailable)
    assert refused.facts["issuer"] == URL
    assert refused.retry_after
    assert len(provider.fetched) == 1
