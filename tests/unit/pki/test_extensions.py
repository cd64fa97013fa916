"""What of a token goes into a leaf is what Fulcio writes."""

import pytest

from ca_service.errors import ConfigurationError, TokenClaimInvalid
from ca_service.pki.extensions import FULCIO_OIDS, encode
from tests.support.pki import public_good

_PUBLIC_GOOD = {
    "issuer": "https://token.actions.githubusercontent.com",
    "github-workflow-trigger": "release",
    "github-workflow-sha": "d8b4a6445f38c48b9137a8099706d9b8073146e4",
    "github-workflow-name": "release",
    "github-workflow-repository": "trailofbits/rfc8785.py",
    "github-workflow-ref": "refs/tags/v0.1.2",
    "build-signer-uri": "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2",
    "build-signer-digest": "d8b4a6445f38c48b9137a8099706d9b8073146e4",
    "runner-environment": "github-hosted",
    "source-repository-uri": "https://github.com/trailofbits/rfc8785.py",
    "source-repository-digest": "d8b4a6445f38c48b9137a8099706d9b8073146e4",
    "source-repository-ref": "refs/tags/v0.1.2",
    "source-repository-identifier": "768213997",
    "source-repository-owner-uri": "https://github.com/trailofbits",
    "source-repository-owner-identifier": "2314423",
    "build-config-uri": "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2",
    "build-config-digest": "d8b4a6445f38c48b9137a8099706d9b8073146e4",
    "build-trigger": "release",
    "run-invocation-uri": "https://github.com/trailofbits/rfc8785.py/actions/runs/8351058501/attempts/1",
    "source-repository-visibility-at-signing": "public",
}


def test_the_extensions_of_a_github_leaf_are_those_of_the_public_good_instance_byte_for_byte() -> None:
    leaf, _, _ = public_good()
    arc = "1.3.6.1.4.1.57264.1."
    theirs = [
        (extension.oid.dotted_string, extension.value.public_bytes())
        for extension in leaf.extensions
        if extension.oid.dotted_string.startswith(arc)
    ]
    assert encode(_PUBLIC_GOOD) == theirs


def test_every_extension_of_fulcios_arc_has_its_number() -> None:
    arcs = sorted(int(oid.rsplit(".", 1)[1]) for oid in FULCIO_OIDS.values())
    assert arcs == [*range(2, 7), *range(8, 25)]  # .1 is the raw issuer, .7 the otherName of user names


def test_empty_values_are_left_out_and_others_ordered_by_number() -> None:
    encoded = encode({"token-subject": "ada", "build-trigger": "", "issuer": "https://i"})
    assert encoded == [
        ("1.3.6.1.4.1.57264.1.1", b"https://i"),
        ("1.3.6.1.4.1.57264.1.8", b"\x0c\x09https://i"),
        ("1.3.6.1.4.1.57264.1.24", b"\x0c\x03ada"),
    ]


def test_a_name_fulcio_does_not_know_is_the_operators_mistake() -> None:
    with pytest.raises(ConfigurationError, match=r"'build-colour'.*build-trigger"):
        encode({"build-colour": "red"})


def test_text_that_is_not_unicode_is_the_tokens_mistake() -> None:
    with pytest.raises(TokenClaimInvalid, match="build-trigger"):
        encode({"build-trigger": "\ud800"})
