"""Whatever a caller sends: schemathesis makes requests out of the OpenAPI document, and breaks them too."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import missing_required_header, positive_data_acceptance

from ca_service.authority.publication import PublishedCrl
from ca_service.errors import TokenMalformed
from ca_service.web.admin import PREFIX
from tests.support.signing import bearer
from tests.unit.web.administration import ALL_POWERFUL
from tests.unit.web.conftest import AUTHORITY, NOW, World, make_world

KEY_ID = "0123456789abcdef0123456789abcdef01234567"
"""The example of the document, so that its CRL is asked for."""


def served() -> World:
    """A service with everything there is to ask for, which believes no token."""
    world = make_world(AUTHORITY)
    world.issuance.trouble = TokenMalformed("the identity token is not a signed JWT")
    world.crls.crls[KEY_ID, "2026-11-0a"] = PublishedCrl("http://ca.example/x", b"crl" * 50, 1, NOW, NOW + 5)
    for name in ("signing_config.json", "client_trust_config.json"):
        world.documents[name] = {"mediaType": "application/vnd.dev.sigstore.x"}
    return world


@schemathesis.serializer("application/ocsp-request")
def octets(_: schemathesis.SerializationContext, value: object) -> bytes:
    """Send what was made up for an OCSP request as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


WORLD = served()
SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", WORLD.app())


@SCHEMA.parametrize()
@settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_request_gets_a_described_answer_and_no_fault(case: schemathesis.Case[Any]) -> None:
    # A request of the right form may still ask for a leaf that does not exist, and Fulcio's clients expect
    # 400 where no token is sent, not 401.
    headers = bearer(ALL_POWERFUL) if case.path.startswith(PREFIX) else {}
    case.call_and_validate(
        headers=headers, excluded_checks=[positive_data_acceptance, missing_required_header]
    )
    assert WORLD.faults == []
