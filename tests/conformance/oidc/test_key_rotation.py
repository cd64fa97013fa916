"""An issuer's keys: fetched once, looked for again once when one is unknown, and kept while it is away."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from tests.conformance.oidc.asking import PERSON, ask, facts, issued, refused
from tests.support.openid import MockServer
from tests.support.processes import RunningService, production_service, running
from tests.support.scripted import ScriptedServer

ONE_FETCH = ["/{name}/.well-known/openid-configuration", "/{name}/jwks"]


def fetches(mock: MockServer, name: str) -> int:
    """How often discovery document and keys were fetched; always both, in this order."""
    paths = mock.asked(name)
    both = [path.format(name=name) for path in ONE_FETCH]
    assert paths == both * (len(paths) // 2)
    return len(paths) // 2


def test_a_new_key_is_found_at_once_and_invented_ones_cost_the_issuer_nothing(
    federation: RunningService, mock: MockServer
) -> None:
    rotating = mock.issuer("rotating")
    for _ in range(5):
        issued(federation, rotating.token(**PERSON))
    assert fetches(mock, "rotating") == 1

    rotating.rotate("second")
    issued(federation, rotating.token(**PERSON, kid="second"))
    assert fetches(mock, "rotating") == 2
    # Both are published, so both are good.
    issued(federation, rotating.token(**PERSON))
    assert fetches(mock, "rotating") == 2

    invented = [rotating.sign({"iss": rotating.url}, {"kid": f"invented-{number}"}) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda token: ask(federation, token), invented))
    for reply in replies:
        facts(reply, 400, "token-key-unknown")
    assert fetches(mock, "rotating") == 2, "a fetch within the cool-down of the last one"
    issued(federation, rotating.token(**PERSON))


def test_a_storm_of_unknown_keys_causes_one_fetch(
    federation: RunningService, scripted: ScriptedServer
) -> None:
    storm = scripted.issuer("storm")
    issued(federation, storm.token())
    assert len(scripted.paths("storm")) == 2
    old = storm.token()
    storm.rotate("second")
    tokens = [storm.token() for _ in range(12)]
    invented = [storm.token({"kid": f"bad-{number}"}) for number in range(12)]
    with ThreadPoolExecutor(8) as pool:
        good, bad = [], []
        for token, other in zip(tokens, invented, strict=True):
            good.append(pool.submit(ask, federation, token))
            bad.append(pool.submit(ask, federation, other))
    assert [future.result().status_code for future in good] == [200] * 12
    assert {future.result().status_code for future in bad} == {400}
    assert len(scripted.paths("storm")) == 4
    # What the issuer no longer publishes is no longer good.
    refused(federation, old, "token-key-unknown")


def test_certificates_go_on_while_an_issuer_is_dead_and_its_new_keys_wait_for_its_return(
    tmp_path: Path,
) -> None:
    with MockServer() as server:
        people = server.issuer("people")
        issuers = {"oidc-issuers": {people.url: {"client-id": "sigstore", "type": "email"}}}
        service = production_service(tmp_path / "ca", issuers=yaml.safe_dump(issuers), workers=1)
        with running(service):
            issued(service, people.token(**PERSON))
            people.rotate("second")
            kept, newer = people.token(**PERSON), people.token(**PERSON, kid="second")
            server.kill()
            for _ in range(3):
                issued(service, kept)
            # The key may well exist: that is no reason to call the token bad.
            reply = ask(service, newer)
            assert facts(reply, 503, "issuer-unavailable")["cause"] == "unreachable"
            assert int(reply.headers["Retry-After"]) > 0
            issued(service, kept)
            log = service.output.read_text()
            assert "its old keys stay in use" in log
            assert kept not in log
            assert newer not in log
            assert PERSON["email"] not in log
