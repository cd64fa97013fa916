"""Templates and principals under random input: what is not accepted is refused in the one foreseen way."""

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca_service.errors import ConfigurationError, InvalidRequest, TokenClaimInvalid, TokenClaimMissing
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import Issuer
from ca_service.identity.principal import Principal, principal_for
from ca_service.identity.templates import Template
from ca_service.vocabulary import SubjectKind

NAMES = st.sampled_from(["a", "b", "sub_1", "x/y.z"])
VALUES: st.SearchStrategy[object] = st.one_of(
    st.text(max_size=8),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
)


def piece(name: str) -> st.SearchStrategy[tuple[str, str]]:
    """A piece of a template, and the claim it shows."""
    spellings = [f'{{{{ index . "{name}" }}}}', f'{{{{(index . "{name}")}}}}']
    if "/" not in name:
        spellings += [f"{{{{ .{name} }}}}", f"{{{{.{name}}}}}"]
    return st.sampled_from([(spelling, name) for spelling in spellings])


LITERALS = st.text(alphabet="ab/:#\"'%} ", max_size=5).filter(lambda text: "}}" not in text)


@given(
    st.lists(st.tuples(LITERALS, NAMES.flatmap(piece)), min_size=1, max_size=5),
    st.dictionaries(NAMES, st.text()),
)
def test_a_template_shows_its_claims_between_its_texts(
    parts: list[tuple[str, tuple[str, str]]], values: dict[str, str]
) -> None:
    source = "".join(literal + spelled for literal, (spelled, _) in parts)
    template = Template.parse(source, needs_all=True)
    asked = {name for _, (_, name) in parts}
    assert template.names == asked
    if asked <= set(values):
        assert template.render(values) == "".join(literal + values[name] for literal, (_, name) in parts)
    else:
        with pytest.raises(TokenClaimMissing) as raised:
            template.render(values)
        assert raised.value.facts["claim"] in asked - set(values)


@given(st.text(alphabet='{}.ab "()ifeqlsndx\\', max_size=40))
def test_any_text_is_a_template_or_a_sentence(source: str) -> None:
    with contextlib.suppress(ValueError):
        template = Template.parse(source)
        template.render(dict.fromkeys(template.names, "x"))


@given(st.dictionaries(NAMES, VALUES))
def test_rendering_yields_text_or_names_the_claim(values: dict[str, object]) -> None:
    refused: TokenClaimMissing | TokenClaimInvalid | None = None
    try:
        assert isinstance(Template.parse('{{ .a }}{{ .b }}{{ index . "x/y.z" }}').render(values), str)
    except (TokenClaimMissing, TokenClaimInvalid) as problem:
        refused = problem
    assert refused is None or refused.facts["claim"] in ("a", "b", "x/y.z")


FILE = """
oidc-issuers:
  https://email.example.com: {client-id: s, type: email, issuer-claim: $.f.c}
  https://uri.example.com: {client-id: s, type: uri, subject-domain: "https://uri.example.com"}
  https://username.example.com: {client-id: s, type: username, subject-domain: example.com}
  https://spiffe.example.com: {client-id: s, type: spiffe, spiffe-trust-domain: example.com}
  https://kubernetes.example.com: {client-id: s, type: kubernetes}
  https://github.example.com: {client-id: s, type: github-workflow}
  https://chainguard.example.com: {client-id: s, type: chainguard-identity}
"""
DIRECTORY = parse_issuer_file(FILE, "t")
JSON: st.SearchStrategy[object] = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "sub": JSON
        | st.sampled_from(["https://uri.example.com/a", "spiffe://example.com/a", "a/b", "someone"]),
        "email": JSON | st.emails(),
        "email_verified": JSON | st.just(True),
        "f": JSON | st.just({"c": "https://x.example.com"}),
        "kubernetes.io": JSON | st.just({"namespace": "n", "serviceaccount": {"name": "s"}}),
        "job_workflow_ref": JSON,
    },
)


@given(st.sampled_from(DIRECTORY.issuers), CLAIMS)
def test_any_claims_make_a_principal_or_a_refusal(issuer: Issuer, claims: Mapping[str, object]) -> None:
    token = VerifiedToken(issuer, issuer.issuer_url, VerifiedClaims(claims))
    principal: Principal | None = None
    refusal = ""
    try:
        principal = principal_for(token)
    except InvalidRequest as refused:
        refusal = refused.message
    if principal is None:
        personal = [value for value in claims.values() if isinstance(value, str) and len(value) > 12]
        assert refusal
        assert not [value for value in personal if value in refusal]
        return
    assert principal.subject.value
    assert principal.challenges
    assert all(principal.extensions.values())
    assert principal.subject.kind is SubjectKind.USERNAME or principal.subject.value.isascii()


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda octets: octets.decode("latin-1")))
def test_any_text_is_an_issuer_file_or_names_itself(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        parse_issuer_file(text, "issuers.yaml")
