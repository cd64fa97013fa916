"""Issuers' keys, kept in this process: no network once an issuer is known, and one fetch at a time for each.

While an issuer is down its old keys go on being used for some hours; while one is slow, the others are not
held up.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ca_service.authority.ports import Observer
from ca_service.authority.waiting import about_to_wait
from ca_service.errors import IssuerUnavailable
from ca_service.identity.issuers import Issuer
from ca_service.oidc.discovery import FETCH_SECONDS, Fetch, fetch_keys
from ca_service.oidc.key_set import KeySet

FRESH_MS = 3_600_000
"""Age after which keys are fetched again, in the background."""
COOL_DOWN_MS = 30_000
"""Time between two fetches of one issuer because of unknown `kid`s, and between failed refreshes."""
FAILED_MS = 10_000
"""How long an issuer that could not be reached is not asked again."""
MAX_ISSUERS = 256
"""Issuers found by wildcard that are remembered; the least recently used goes first."""
PATTERN_BUDGET = 30
"""First fetches one wildcard may cause in PATTERN_WINDOW_MS, so that inventing issuers has a price."""
PATTERN_WINDOW_MS = 60_000
MAX_WAITING = 8
"""Callers that may wait for one configured issuer, or all of one wildcard; the others have PATIENCE_MS."""
PATIENCE_MS = 250
"""Age of a fetch up to which any number waits: longer than a healthy issuer takes."""
STALE_SECONDS = 24 * 3600
"""How long keys are used that could not be fetched again, unless the operator says otherwise."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    """What is known of one issuer; times in milliseconds. Fields are replaced whole: readers need no lock."""

    wildcard: bool
    keys: KeySet | None = None
    loaded_at: int = 0
    tried_at: int = 0
    searched_at: int = 0
    used_at: int = 0
    failure: IssuerUnavailable | None = None
    fetching: threading.Event | None = None
    fetches: int = 0


@dataclass(slots=True)
class _Shared:
    """What the lock guards; made anew after a fork, whose child has none of the parent's threads."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    seats: dict[str, threading.BoundedSemaphore] = field(default_factory=dict)


class KeyCache:
    """Answers with an issuer's keys; safe to use from many threads and across fork."""

    def __init__(
        self,
        fetch: Fetch,
        clock: Callable[[], int],
        *,
        stale_seconds: int = STALE_SECONDS,
        observer: Observer | None = None,
    ) -> None:
        """Take how to fetch, the clock (milliseconds since 1970), and how long keys of an issuer down serve.

        The observer hears of failed fetches, of old keys that still serve, and of fetches for unknown keys.
        """
        self._fetch = fetch
        self._clock = clock
        self._stale_ms = stale_seconds * 1000
        self._observer = observer
        self._shared = _Shared()
        self._entries: dict[str, _Entry] = {}
        self._budgets: dict[str, deque[int]] = {}

    def keys(self, issuer: Issuer, issuer_url: str) -> KeySet:
        """Return the issuer's keys, fetched at most once by however many callers.

        Raises IssuerUnavailable, with the seconds to wait, when there are none and none can be had now.
        """
        now = self._clock()
        entry = self._entries.get(issuer_url)
        if entry is not None and (keys := self._usable(entry, now)) is not None:
            entry.used_at = now
            if not 0 <= now - entry.loaded_at < FRESH_MS:
                if entry.failure is not None:
                    self._count("issuer_stale_keys_served", issuer)
                self._refresh_in_background(entry, issuer, issuer_url, now)
            return keys
        return self._first_keys(issuer, issuer_url, now)

    def newer_keys(self, issuer: Issuer, issuer_url: str, than: KeySet) -> KeySet:
        """Fetch once more because `than` lacks a key, unless that was done moments ago.

        Returns what is then known, which may still be `than`. Raises IssuerUnavailable when the issuer,
        asked now or a moment ago, did not answer: the key may exist.
        """
        now = self._clock()
        entry = self._entries.get(issuer_url)
        if entry is None:
            return self._first_keys(issuer, issuer_url, now)
        if entry.keys is not than and entry.keys is not None:
            return entry.keys
        about_to_wait()
        seen = entry.fetches
        if entry.fetching is not None or not 0 <= now - entry.searched_at < COOL_DOWN_MS:
            if entry.fetching is None:
                self._count("issuer_keys_fetched_for_unknown_kid", issuer)
            entry.searched_at = now
            self._fetch_or_wait(entry, issuer, issuer_url, now, seen)
        if entry.keys is than and entry.failure is not None:
            raise _again(entry.failure)
        return entry.keys or than

    def _first_keys(self, issuer: Issuer, issuer_url: str, now: int) -> KeySet:
        about_to_wait()
        with self._lock():
            entry = self._entries.get(issuer_url) or self._new_entry(issuer, issuer_url, now)
        seen = entry.fetches
        if entry.failure is not None and 0 <= now - entry.tried_at < FAILED_MS:
            raise _again(entry.failure)
        self._fetch_or_wait(entry, issuer, issuer_url, now, seen)
        if (keys := self._usable(entry, now)) is not None:
            return keys
        raise _again(entry.failure or _unavailable(issuer_url, "timeout", "its answer is still awaited"))

    def _usable(self, entry: _Entry, now: int) -> KeySet | None:
        """The keys, unless they are so old that the issuer may have withdrawn them long since."""
        return entry.keys if now - entry.loaded_at < self._stale_ms else None

    def _new_entry(self, issuer: Issuer, issuer_url: str, now: int) -> _Entry:
        """Make room for one more issuer; the caller holds the lock."""
        if issuer.wildcard:
            self._spend(issuer, issuer_url, now)
            found = [
                (known.keys is not None, known.used_at, url)
                for url, known in self._entries.items()
                if known.wildcard
            ]
            if len(found) >= MAX_ISSUERS:
                # Those that never answered go before those that did.
                del self._entries[min(found)[2]]
        entry = self._entries[issuer_url] = _Entry(issuer.wildcard, used_at=now)
        return entry

    def _spend(self, issuer: Issuer, issuer_url: str, now: int) -> None:
        spent = self._budgets.setdefault(issuer.issuer_url, deque(maxlen=PATTERN_BUDGET))
        if len(spent) == PATTERN_BUDGET and 0 <= now - spent[0] < PATTERN_WINDOW_MS:
            raise _unavailable(
                issuer_url,
                "budget",
                f"{PATTERN_BUDGET} new issuers of {issuer.issuer_url} were asked within a minute",
                retry_after=PATTERN_WINDOW_MS // 1000,
            )
        spent.append(now)

    def _refresh_in_background(self, entry: _Entry, issuer: Issuer, issuer_url: str, now: int) -> None:
        if entry.fetching is not None or 0 <= now - entry.tried_at < COOL_DOWN_MS:
            return
        done = self._begin(entry, now, entry.fetches)
        if done is not None:
            threading.Thread(
                target=self._load, args=(entry, done, issuer, issuer_url), name="issuer-keys", daemon=True
            ).start()

    def _fetch_or_wait(self, entry: _Entry, issuer: Issuer, issuer_url: str, now: int, seen: int) -> None:
        """Fetch, or wait for whoever is fetching this issuer already; others are not concerned.

        `seen` is the number of fetches when the caller found that it needs one.

        Raises IssuerUnavailable when too many wait already: an issuer that says nothing must not hold every
        thread of the server, while a healthy one may have a crowd at its first fetch.
        """
        if entry.failure is not None and entry.fetching is not None:
            return  # it failed before, and one caller sees whether it is back
        with self._lock():
            seats = self._shared.seats.setdefault(issuer.issuer_url, threading.BoundedSemaphore(MAX_WAITING))
        age = max(now - entry.tried_at, 0)
        if not seats.acquire(timeout=max(PATIENCE_MS - age, 0) / 1000):
            raise _unavailable(issuer_url, "busy", "too many wait for its answer already", retry_after=2)
        try:
            done = self._begin(entry, now, seen)
            if done is not None:
                self._load(entry, done, issuer, issuer_url)
            elif (other := entry.fetching) is not None and not other.wait(FETCH_SECONDS):
                raise _unavailable(issuer_url, "timeout", "its answer is still awaited")
        finally:
            seats.release()

    def _begin(self, entry: _Entry, now: int, seen: int) -> threading.Event | None:
        """Take on the fetch of an entry; None when another thread has it, or had it since `seen`."""
        with self._lock():
            if entry.fetching is not None or entry.fetches != seen:
                return None
            entry.tried_at = now
            entry.fetching = threading.Event()
            return entry.fetching

    def _load(self, entry: _Entry, done: threading.Event, issuer: Issuer, issuer_url: str) -> None:
        try:
            keys = fetch_keys(issuer, issuer_url, self._fetch, retry_after=FAILED_MS // 1000)
            entry.keys, entry.loaded_at, entry.failure = keys, self._clock(), None
            self._note(issuer, entry.loaded_at, len(keys.keys))
        except IssuerUnavailable as failure:
            entry.failure = _again(failure)
            self._count("issuer_keys_fetch_failed", issuer, cause=failure.facts.get("cause", "unreachable"))
            if entry.keys is None:
                kept = "it has no keys yet"
            elif self._usable(entry, self._clock()) is None:
                kept = (
                    f"its old keys are older than {self._stale_ms // 3_600_000} hours and not used any more"
                )
            else:
                kept = "its old keys stay in use"
            _log.warning("issuer keys not fetched: %s; %s", failure.message, kept)
        finally:
            entry.tried_at = self._clock()
            entry.fetches += 1
            entry.fetching = None
            done.set()

    def _note(self, issuer: Issuer, fetched_at: int, keys: int) -> None:
        if self._observer is not None:
            self._count("issuer_keys_fetched", issuer)
            self._observer.level("issuer_keys", keys, issuer=issuer.issuer_url)
            self._observer.level("issuer_keys_fetched_at", fetched_at / 1000, issuer=issuer.issuer_url)

    def _count(self, event: str, issuer: Issuer, **labels: str) -> None:
        # By the issuer as configured: issuers found by wildcard are of no small, fixed set.
        if self._observer is not None:
            self._observer.count(event, issuer=issuer.issuer_url, **labels)

    def _lock(self) -> threading.Lock:
        if self._shared.pid != os.getpid():
            # In a forked child: the lock may have been held, and whoever was fetching is not here.
            self._shared = _Shared()
            for entry in self._entries.values():
                entry.fetching = None
        return self._shared.lock


def _again(failure: IssuerUnavailable) -> IssuerUnavailable:
    """A fresh exception: one that is raised again and again would keep every caller's frames."""
    return IssuerUnavailable(failure.message, retry_after=failure.retry_after, **failure.facts)


def _unavailable(
    issuer_url: str, cause: str, why: str, *, retry_after: int = FAILED_MS // 1000
) -> IssuerUnavailable:
    return IssuerUnavailable(
        f"the keys of issuer {issuer_url} could not be fetched: {why}",
        retry_after=retry_after,
        issuer=issuer_url,
        cause=cause,
    )
