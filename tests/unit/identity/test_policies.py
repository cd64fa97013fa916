"""The policy of the operator lets in exactly the identities it names, and says why it refuses the others."""

import pytest

from ca_service.errors import IdentityRefused, TokenClaimMissing
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import IssuerDirectory
from ca_service.identity.policies import IssuerPolicy, restrict
from ca_service.identity.principal import principal_for

URL = "https://idp.example.com"
DIRECTORY = parse_issuer_file(
    f"""
oidc-issuers:
  {URL}: {{client-id: sigstore, type: email, algorithms: [ES256, RS256]}}
  https://ci.example.com: {{client-id: sigstore, type: uri, subject-domain: "https://ci.example.com"}}
meta-issuers:
  https://oidc.example.com/id/*: {{client-id: sigstore, type: kubernetes}}
""",
    "issuers.yaml",
)
CLAIMS = {"sub": "1", "email": "someone@example.com", "email_verified": True}


def under(policy: IssuerPolicy) -> IssuerDirectory:
    return restrict(DIRECTORY, [policy])


def ask(policy: IssuerPolicy, **claims: object) -> None:
    """Make the principal of a token of URL under the policy; claims of None are left out."""
    issuer = under(policy).find(URL)
    assert issuer is not None
    present = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    principal_for(VerifiedToken(issuer, URL, VerifiedClaims(present)))


HOSTED = IssuerPolicy(URL, required_claims={"hd": ("example.com", "example.org")})


@pytest.mark.parametrize("hd", ["example.com", "example.org", ["other", "example.com"]])
def test_a_required_claim_with_an_allowed_value_lets_in(hd: object) -> None:
    ask(HOSTED, hd=hd)


@pytest.mark.parametrize("hd", ["private.example", "EXAMPLE.COM", "", 1, True, [], ["private"], {"a": "b"}])
def test_another_value_is_refused_without_being_repeated(hd: object) -> None:
    with pytest.raises(IdentityRefused) as raised:
        ask(HOSTED, hd=hd)
    assert "'hd'" in raised.value.message
    assert raised.value.facts == {
        "claim": "hd",
        "expected": "example.com or example.org",
        "received": "another value",
    }
    assert "private" not in raised.value.message


def test_a_missing_claim_is_named_with_what_it_should_be() -> None:
    for claims in ({}, {"hd": None}):
        with pytest.raises(TokenClaimMissing, match=r"no claim 'hd', .*expected example\.com or example"):
            ask(HOSTED, **claims)


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [(True, True, 1), (1, 1.0, True), ("1", "1", 1), (1, 1, "1"), (False, False, 0), ("true", "true", True)],
)
def test_values_are_compared_with_their_types(allowed: str | bool | int, good: object, bad: object) -> None:
    policy = IssuerPolicy(URL, required_claims={"level": (allowed,)})
    ask(policy, level=good)
    with pytest.raises(IdentityRefused):
        ask(policy, level=bad)


def test_a_path_leads_into_a_claim() -> None:
    policy = IssuerPolicy(
        "https://oidc.example.com/id/*", required_claims={"$['kubernetes.io'].namespace": ("release",)}
    )
    issuer = under(policy).find("https://oidc.example.com/id/one")
    assert issuer is not None

    def ask_for(namespace: str) -> None:
        claims = {"sub": "x", "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": "a"}}}
        principal_for(VerifiedToken(issuer, "https://oidc.example.com/id/one", VerifiedClaims(claims)))

    ask_for("release")
    with pytest.raises(IdentityRefused, match="namespace"):
        ask_for("other")


def test_only_addresses_of_the_allowed_domains_get_in() -> None:
    policy = IssuerPolicy(URL, allowed_email_domains=("Example.COM", "example.org"))
    for address in ("a@example.com", "A@EXAMPLE.com", "b@example.org"):
        ask(policy, email=address)
    for address in (
        "a@sub.example.com",
        "a@notexample.com",
        "a@example.com.evil.test",
        "example.com@evil.test",
        "a@example.co",
    ):
        with pytest.raises(IdentityRefused) as raised:
            ask(policy, email=address)
        assert raised.value.facts["expected"] == "example.com or example.org"
        assert "evil" not in f"{raised.value.message} {raised.value.facts}"
        assert "a@" not in raised.value.message


def test_a_policy_narrows_algorithms_and_audience_and_never_widens_them() -> None:
    issuer = under(IssuerPolicy(URL, algorithms=("ES256", "ES384"), strict_audience=True)).find(URL)
    assert issuer is not None
    assert issuer.algorithms == ("ES256",)
    assert issuer.strict_audience
    untouched = under(HOSTED).find("https://ci.example.com")
    assert untouched == DIRECTORY.find("https://ci.example.com")


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (IssuerPolicy("https://other.example.com"), "https://other.example.com is not in the issuer file"),
        (IssuerPolicy(URL + "/"), "is not in the issuer file"),
        (IssuerPolicy("https://oidc.example.com/id/one"), "exactly as it is listed"),
        (IssuerPolicy(URL, algorithms=("HS256",)), "'HS256' is not one of RS256"),
        (IssuerPolicy(URL, algorithms=("PS256",)), "none is left"),
        (IssuerPolicy(URL, allowed_email_domains=("@example.com",)), "'@example.com' is not used"),
        (IssuerPolicy(URL, allowed_email_domains=("*.example.com",)), "is not used"),
        (IssuerPolicy(URL, allowed_email_domains=("",)), "is not used"),
        (
            IssuerPolicy("https://ci.example.com", allowed_email_domains=("example.com",)),
            "type email, not uri; expected required_claims",
        ),
        (IssuerPolicy(URL, required_claims={"$.a[*]": ("x",)}), "required_claims: a claim path"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_naming_the_issuer(
    policy: IssuerPolicy, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence.replace("[", r"\[").replace("*", r"\*")) as raised:
        under(policy)
    assert policy.issuer in str(raised.value)


def test_two_policies_of_one_issuer_are_refused() -> None:
    with pytest.raises(ValueError, match="two policies"):
        restrict(DIRECTORY, [HOSTED, IssuerPolicy(URL)])
