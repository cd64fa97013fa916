"""When an issuer is asked for its keys, and what happens while it does not answer."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ca_service.errors import IssuerUnavailable, TokenKeyUnknown
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import IssuerDirectory
from ca_service.oidc import key_cache
from ca_service.oidc.verifier import TokenVerifier
from tests.unit.oidc.issuer import Provider, directory

TWO_FETCHES = 2  # discovery document and keys


def verifier(provider: Provider, known: IssuerDirectory | None = None) -> TokenVerifier:
    known = known or directory()
    return TokenVerifier(lambda: known, provider.fetch, provider.clock)


def _wait(gate: threading.Event) -> None:
    assert gate.wait(60)


def until(reached: Callable[[], bool]) -> None:
    """Wait until something is so; a minute is there only so that a broken test ends."""
    ends = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.001)


def test_nothing_is_fetched_before_the_first_token_and_only_once_after() -> None:
    provider = Provider()
    tested = verifier(provider)
    assert provider.fetched == []
    for _ in range(5):
        tested.verify(provider.token())
    assert len(provider.fetched) == TWO_FETCHES


def test_a_rotated_key_is_fetched_when_a_token_names_it() -> None:
    provider = Provider()
    tested = verifier(provider)
    tested.verify(provider.token())
    provider.rotate("second")
    assert tested.verify(provider.token()).issuer_url
    assert len(provider.fetched) == 2 * TWO_FETCHES


def test_made_up_key_ids_cause_one_fetch_per_cool_down() -> None:
    provider = Provider()
    tested = verifier(provider)
    tested.verify(provider.token())
    for name in range(20):
        with pytest.raises(TokenKeyUnknown):
            tested.verify(provider.token({"kid": f"made-up-{name}"}))
    assert len(provider.fetched) == 2 * TWO_FETCHES
    assert tested.verify(provider.token()).issuer_url
    provider.now += 31
    with pytest.raises(TokenKeyUnknown):
        tested.verify(provider.token({"kid": "made-up"}))
    assert len(provider.fetched) == 3 * TWO_FETCHES


def test_old_keys_stay_in_use_while_the_issuer_is_down() -> None:
    provider = Provider()
    tested = verifier(provider)
    tested.verify(provider.token())
    provider.down = True
    provider.now += 7200
    assert tested.verify(provider.token()).issuer_url
    until(lambda: len(provider.fetched) == TWO_FETCHES + 1)
    for _ in range(3):
        assert tested.verify(provider.token()).issuer_url
    assert len(provider.fetched) == TWO_FETCHES + 1


def test_an_unknown_key_while_the_issuer_is_down_is_not_called_wrong() -> None:
    provider = Provider()
    tested = verifier(provider)
    tested.verify(provider.token())
    provider.down = True
    for _ in range(2):
        with pytest.raises(IssuerUnavailable):
            tested.verify(provider.token({"kid": "perhaps-new"}))
    assert len(provider.fetched) == TWO_FETCHES + 1


def test_old_keys_are_refreshed_in_the_background() -> None:
    provider = Provider()
    tested = verifier(provider)
    tested.verify(provider.token())
    asked, go_on = threading.Event(), threading.Event()

    def held() -> None:
        asked.set()
        assert go_on.wait(60)

    provider.before_answer = held
    provider.now += 3601
    assert tested.verify(provider.token()).issuer_url, "the old keys answer while the new ones are fetched"
    assert asked.wait(60)
    old = provider.token()
    provider.rotate("second")
    go_on.set()
    until(lambda: len(provider.fetched) == 2 * TWO_FETCHES)
    assert tested.verify(provider.token()).issuer_url
    with pytest.raises(TokenKeyUnknown):
        tested.verify(old)


def test_an_issuer_that_is_down_is_left_alone_for_a_while() -> None:
    provider = Provider()
    provider.down = True
    tested = verifier(provider)
    for _ in range(10):
        with pytest.raises(IssuerUnavailable) as raised:
            tested.verify(provider.token())
        assert raised.value.retry_after == 10
        assert len(raised.traceback) < 20, "a failure that is remembered does not gather its callers"
    assert len(provider.fetched) == 1
    provider.down = False
    provider.now += 11
    assert tested.verify(provider.token()).issuer_url


def test_many_callers_at_once_cause_one_fetch() -> None:
    provider = Provider()
    tested = verifier(provider)
    gate = threading.Event()
    provider.before_answer = lambda: _wait(gate)
    token = provider.token()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(tested.verify, token) for _ in range(8)]
        until(lambda: len(provider.fetched) == 1)
        gate.set()
        assert all(answer.result().issuer_url for answer in answers)
    assert len(provider.fetched) == TWO_FETCHES


def test_a_slow_issuer_does_not_hold_up_the_others() -> None:
    slow, quick = Provider("https://slow.example"), Provider("https://quick.example")
    gate = threading.Event()
    slow.before_answer = lambda: _wait(gate)
    known = IssuerDirectory((*directory(url=slow.url).issuers, *directory(url=quick.url).issuers))
    providers = {"slow": slow, "quick": quick}

    def fetch(url: str, ca_cert: str | None, timeout: float) -> bytes:
        return providers[url.split("//")[1].split(".")[0]].fetch(url, ca_cert, timeout)

    tested = TokenVerifier(lambda: known, fetch, slow.clock)
    with ThreadPoolExecutor(1) as pool:
        held_up = pool.submit(tested.verify, slow.token())
        until(lambda: len(slow.fetched) == 1)
        assert tested.verify(quick.token()).issuer_url, (
            "answered while the slow issuer still keeps us waiting"
        )
        assert not held_up.done()
        gate.set()
        assert held_up.result().issuer_url


def test_a_fetch_that_fails_in_an_unforeseen_way_is_an_unavailable_issuer() -> None:
    provider = Provider()

    def broken(url: str, ca_cert: str | None, timeout: float) -> bytes:
        raise OSError("no route to host 10.1.2.3")

    with pytest.raises(IssuerUnavailable) as raised:
        TokenVerifier(directory, broken, provider.clock).verify(provider.token())
    assert "10.1.2.3" not in raised.value.message


WILDCARD = parse_issuer_file(
    "meta-issuers:\n  https://oidc.example.com/id/*:\n    client-id: sigstore\n    type: email\n", "t"
)


def test_invented_issuers_of_a_wildcard_are_fetched_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "PATTERN_BUDGET", 5)
    fetched: list[str] = []
    now = Provider().now

    def fetch(url: str, ca_cert: str | None, timeout: float) -> bytes:
        fetched.append(url)
        raise IssuerUnavailable("nobody there")

    tested = TokenVerifier(lambda: WILDCARD, fetch, lambda: now * 1000)
    for name in range(20):
        with pytest.raises(IssuerUnavailable):
            tested.verify(Provider(f"https://oidc.example.com/id/{name}").token())
    assert len(fetched) == 5
    now += 61
    with pytest.raises(IssuerUnavailable):
        tested.verify(Provider("https://oidc.example.com/id/later").token())
    assert len(fetched) == 6


def test_the_memory_for_issuers_is_bounded_and_keeps_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "MAX_ISSUERS", 4)
    used = Provider("https://oidc.example.com/id/used")
    providers = {used.url: used}
    for name in range(10):
        provider = Provider(f"https://oidc.example.com/id/{name}")
        providers[provider.url] = provider

    def fetch(url: str, ca_cert: str | None, timeout: float) -> bytes:
        return next(p for p in providers.values() if url.startswith(p.url + "/")).fetch(url, ca_cert, timeout)

    moment = [used.now]
    tested = TokenVerifier(lambda: WILDCARD, fetch, lambda: moment[0] * 1000)
    for provider in providers.values():
        moment[0] += 1
        tested.verify(provider.token(exp=moment[0] + 60))
        moment[0] += 1
        tested.verify(used.token(exp=moment[0] + 60))
    assert len(used.fetched) == TWO_FETCHES
    assert len(tested._cache._entries) == 4


def test_a_child_process_is_not_stuck_on_what_its_parent_was_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    tested = verifier(provider)
    token = provider.token()
    cache = tested._cache
    # As after a fork in the middle of a fetch: the lock is held, the entry is being fetched, by nobody.
    entry = cache._new_entry(directory().issuers[0], provider.url, provider.clock())
    entry.fetching = threading.Event()
    cache._shared.lock.acquire()
    cache._shared.pid -= 1
    assert tested.verify(token).issuer_url


class Noted:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []

    def count(self, event: str, **labels: str) -> None:
        self.events.append((event, labels))

    def duration(self, stage: str, seconds: float) -> None:
        """Nothing is timed here."""

    def size(self, what: str, number: float) -> None:
        """Nothing has a size here."""

    def level(self, what: str, value: float, **labels: str) -> None:
        """Levels are not looked at here."""

    def of(self, event: str) -> list[dict[str, str]]:
        return [labels for name, labels in self.events if name == event]


def test_old_keys_of_an_issuer_that_is_down_serve_for_a_limited_time_and_that_is_counted() -> None:
    provider, noted, known = Provider(), Noted(), directory()
    tested = TokenVerifier(lambda: known, provider.fetch, provider.clock, stale_seconds=7200, observer=noted)
    tested.verify(provider.token())
    provider.down = True
    provider.now += 3601
    assert tested.verify(provider.token()).issuer_url
    until(lambda: len(noted.of("issuer_keys_fetch_failed")) == 1)
    until(lambda: tested._cache._entries[provider.url].fetching is None)
    assert noted.of("issuer_keys_fetch_failed") == [{"issuer": provider.url, "cause": "unreachable"}]
    assert tested.verify(provider.token()).issuer_url
    assert noted.of("issuer_stale_keys_served") == [{"issuer": provider.url}]
    provider.now += 3599
    with pytest.raises(IssuerUnavailable) as raised:
        tested.verify(provider.token())
    assert raised.value.retry_after == 10
    provider.down = False
    provider.now += 11
    assert tested.verify(provider.token()).issuer_url, "and it recovers as soon as the issuer does"


def test_keys_that_are_renewed_in_time_are_never_too_old() -> None:
    provider, noted, known = Provider(), Noted(), directory()
    tested = TokenVerifier(lambda: known, provider.fetch, provider.clock, stale_seconds=7200, observer=noted)
    for turn in range(5):
        assert tested.verify(provider.token()).issuer_url
        until(lambda turn=turn: len(provider.fetched) == (turn + 1) * TWO_FETCHES)  # type: ignore[misc]  # mypy sees no default in it
        until(lambda: tested._cache._entries[provider.url].fetching is None)
        provider.now += 3700
    assert noted.events == [("issuer_keys_fetched", {"issuer": provider.url})] * 5


def test_a_fetch_for_an_unknown_key_is_counted_once() -> None:
    provider, noted, known = Provider(), Noted(), directory()
    tested = TokenVerifier(lambda: known, provider.fetch, provider.clock, observer=noted)
    tested.verify(provider.token())
    for name in range(5):
        with pytest.raises(TokenKeyUnknown):
            tested.verify(provider.token({"kid": f"made-up-{name}"}))
    assert noted.of("issuer_keys_fetched_for_unknown_kid") == [{"issuer": provider.url}]
    assert len(noted.of("issuer_keys_fetched")) == 2
