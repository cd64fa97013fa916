"""Whatever claims an issuer signs: a refusal in words, or a certificate that names what the template says."""

import json
from collections.abc import Mapping
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from ca_service.errors import IssuerUnavailable
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.oidc.verifier import TokenVerifier
from ca_service.web import fulcio
from ca_service.web.application import base_app
from tests.support.signing import b64, public_pem
from tests.unit.authority.conftest import SmallAuthority
from tests.unit.authority.conftest import small as small

ISSUER = "https://ci.example"
ISSUER_FILE = f"""
oidc-issuers:
  {ISSUER}: {{issuer-url: {ISSUER}, client-id: sigstore, type: ci-provider, ci-provider: factory}}
ci-issuer-metadata:
  factory:
    default-template-values: {{url: "https://ci.example"}}
    subject-alternative-name-template: "{{{{ .url }}}}/{{{{ .job }}}}@{{{{ .ref }}}}"
    extension-templates: {{source-repository-digest: sha, build-trigger: "{{{{ .event }}}}"}}
"""

SIMPLE = st.one_of(
    st.text(max_size=40),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
PLAIN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_./%@ é", max_size=20)
USUAL = {"job": "build", "ref": "main", "sha": "0a1b", "event": "push"}
CLAIMS = st.builds(
    lambda changed, missing: {
        name: value for name, value in (USUAL | changed).items() if name not in missing
    },
    st.dictionaries(
        st.sampled_from(["job", "ref", "sha", "event", "url", "email"]), st.one_of(PLAIN, SIMPLE), max_size=3
    ),
    st.sets(st.sampled_from(sorted(USUAL)), max_size=1),
)


def written(value: object) -> str | None:
    """How Go's template writes a claim; None for what has no written form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def expected_subject(claims: Mapping[str, object]) -> str | None:
    """What the template says of these claims, worked out without a template; None when it cannot say."""
    said = {name: value for name, value in claims.items() if value is not None}  # null says nothing
    parts = [written({"url": "https://ci.example", **said}.get(name)) for name in ("url", "job", "ref")]
    if None in parts:
        return None
    url, job, ref = parts
    return f"{url}/{job}@{ref}"


class Desk:
    """The service's signing call, over real HTTP objects, for tokens of one trusted issuer."""

    def __init__(self, small: SmallAuthority) -> None:
        self.clock = small.clock
        self.key = ECKey.generate_key("P-256", {"kid": "1", "use": "sig", "alg": "ES256"}, private=True)
        directory = parse_issuer_file(ISSUER_FILE, "issuers.yaml")

        def unreachable(url: str, ca_cert: str | None, timeout: float) -> bytes:
            raise IssuerUnavailable("no network in this test")

        keys = {ISSUER: {"keys": [self.key.as_dict(private=False)]}}
        verifier = TokenVerifier(lambda: directory, unreachable, small.clock, built_in_keys=keys)
        issuance = small.issuance()
        issuance._verify_token = verifier.verify
        app = base_app()
        app.register_blueprint(fulcio.blueprint(issuance, NoChains(), lambda: directory))
        self.http = app.test_client()
        self.signer = ec.generate_private_key(ec.SECP256R1())

    def ask(self, claims: Mapping[str, object]) -> tuple[int, x509.Certificate | None]:
        now = self.clock.seconds
        whole = {"iss": ISSUER, "aud": "sigstore", "sub": "job:7", "iat": now, "exp": now + 300, **claims}
        token = jwt.encode({"alg": "ES256", "kid": "1"}, whole, self.key, ["ES256"])
        proof = self.signer.sign(b"job:7", ec.ECDSA(SHA256()))
        body = {
            "credentials": {"oidcIdentityToken": token},
            "publicKeyRequest": {
                "publicKey": {"content": public_pem(self.signer)},
                "proofOfPossession": b64(proof),
            },
        }
        reply = self.http.post("/api/v2/signingCert", data=json.dumps(body))
        if reply.status_code != 200:
            assert reply.get_json()["message"]
            return reply.status_code, None
        chain = reply.get_json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]
        return 200, x509.load_pem_x509_certificate(chain[0].encode())


class NoChains:
    """Trust material, of which the signing call needs none."""

    def chains(self) -> list[list[str]]:
        return []


@pytest.fixture
def desk(small: SmallAuthority) -> Desk:
    return Desk(small)


def subject_of(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(names) == 1
    return str(names[0].value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(claims=CLAIMS)
def test_claims_give_a_refusal_or_the_name_the_template_says(
    desk: Desk, claims: Mapping[str, object]
) -> None:
    status, certificate = desk.ask(claims)
    assert status < 500
    if certificate is not None:
        expected = expected_subject(claims)
        assert expected is not None
        # What a URI cannot hold is percent-encoded in the leaf; it must say the same all the same.
        assert unquote(subject_of(certificate)) == unquote(expected)


def test_the_desk_does_give_certificates(desk: Desk) -> None:
    """Or the property above would hold of a service that refuses everyone."""
    status, certificate = desk.ask(USUAL | {"ref": 7})
    assert status == 200
    assert certificate is not None
    assert subject_of(certificate) == "https://ci.example/build@7"
