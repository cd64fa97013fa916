"""ports.RateLimiter: exact counts in this process or in a Redis, and no request that waits for either."""

import itertools
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import pytest
from limits.storage import memory as storage

from ca_service.authority.ports import RATE_WINDOW_SECONDS, Allowance, Counts, Question, RateLimiter
from ca_service.cache import memory
from ca_service.cache.memory import MemoryRateLimiter
from ca_service.cache.redis_server import PAUSE_SECONDS, RedisRateLimiter
from ca_service.errors import ConfigurationError
from tests.support.impostor import Impostor
from tests.support.processes import wait_until
from tests.support.redis_server import LocalRedis
from tests.support.store import RecordingObserver

Make = Callable[[int], RateLimiter]
KEY = "5e" * 32
PATIENT = 60.0
"""Seconds: a Redis that is there answers within them, however busy the machine is."""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalRedis]:
    with LocalRedis() as started:
        yield started


@pytest.fixture
def redis(server: LocalRedis) -> LocalRedis:
    """The server, with nothing stored."""
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def limiter(redis: LocalRedis, observer: RecordingObserver) -> Iterator[RedisRateLimiter]:
    """One over Redis, with the window of the service."""
    with closing(RedisRateLimiter(redis.url, observer, timeout_seconds=PATIENT)) as made:
        yield made


@pytest.fixture(params=["memory", "redis"])
def make(
    request: pytest.FixtureRequest, observer: RecordingObserver
) -> Iterator[Callable[[int], RateLimiter]]:
    """Make a limiter of either kind, with a window of so many seconds."""
    if request.param == "memory":
        yield lambda seconds: MemoryRateLimiter(window_seconds=seconds)
        return
    url = request.getfixturevalue("redis").url
    made: list[RedisRateLimiter] = []

    def over_redis(seconds: int) -> RateLimiter:
        made.append(RedisRateLimiter(url, observer, window_seconds=seconds, timeout_seconds=PATIENT))
        return made[-1]

    yield over_redis
    for each in made:
        each.close()


def taken(limiter: RateLimiter, key: str = KEY, limit: int = 3) -> Allowance:
    """What is left, which must be known."""
    allowance = limiter.take(key, limit)
    assert allowance is not None
    return allowance


def uncounted(observer: RecordingObserver) -> list[str]:
    """Why each request went on that nobody counted."""
    return [labels["reason"] for event, labels in observer.counted if event == "rate_limit_unavailable"]


def test_a_limit_is_counted_down_to_its_end_and_not_below(make: Make) -> None:
    limiter = make(RATE_WINDOW_SECONDS)
    seen = [taken(limiter) for _ in range(5)]
    assert [each.allowed for each in seen] == [True, True, True, False, False]
    assert [each.remaining for each in seen] == [2, 1, 0, 0, 0]
    assert {each.limit for each in seen} == {3}
    assert all(0 < each.reset_after <= RATE_WINDOW_SECONDS for each in seen)


def test_a_request_under_two_keys_counts_for_the_second_only_where_the_first_allows_it(make: Make) -> None:
    limiter, other = make(RATE_WINDOW_SECONDS), "0f" * 32
    answers = [limiter.take_in_turn([(KEY, 2), (other, 5)]) for _ in range(4)]
    told = [[each and (each.allowed, each.remaining) for each in answer] for answer in answers]
    assert told[:2] == [[(True, 1), (True, 4)], [(True, 0), (True, 3)]]
    assert [answer[0] for answer in told[2:]] == [(False, 0), (False, 0)]
    assert not any(told[2][1:] + told[3][1:])
    assert taken(limiter, other, limit=5).remaining == 2


def asked(limiter: RateLimiter, *requests: Counts) -> list[Question]:
    """Questions of a thread that may not wait, once all have their answers."""
    questions = [question for counts in requests if (question := limiter.ask(counts)) is not None]
    assert len(questions) == len(requests)
    for question in questions:
        question.flush()
    wait_until(lambda: all(question.is_over for question in questions), 60, "answers")
    return questions


def test_many_that_may_not_wait_are_answered_as_if_each_had_waited(
    limiter: RedisRateLimiter, observer: RecordingObserver
) -> None:
    told: list[int] = []
    first = limiter.ask([(KEY, 3)])
    assert first is not None
    first.then = lambda: told.append(1)
    questions = [first, *asked(limiter, *([[(KEY, 3), ("0f" * 32, 9)]] * 300))]
    allowed = [answer.allowed for each in questions if (answer := each.answers[0]) is not None]
    assert len(allowed) == 301
    assert sum(allowed) == 3
    assert told == [1]
    assert taken(limiter, "0f" * 32, limit=9).remaining == 6
    assert observer.counted == []


def test_rubbish_under_one_key_hides_no_other_answer(
    redis: LocalRedis, limiter: RedisRateLimiter, observer: RecordingObserver
) -> None:
    with redis.client() as client:
        client.rpush(f"casvc:rate:{KEY}", "a", "list")
    poisoned, well = asked(limiter, [(KEY, 3), ("0f" * 32, 3)], [("0e" * 32, 3)])
    assert poisoned.answers[0] is None
    assert [each.remaining for each in (*poisoned.answers[1:], *well.answers) if each] == [2, 2]
    assert uncounted(observer) == ["nonsense"]


def test_who_may_not_wait_goes_on_while_redis_is_away(redis: LocalRedis, observer: RecordingObserver) -> None:
    patient = RedisRateLimiter(redis.url, observer, timeout_seconds=PATIENT, clock=lambda: 100.0)
    with closing(patient) as limiter:
        redis.kill()
        try:
            (question,) = asked(limiter, [(KEY, 3)])
            assert list(question.answers) == [None]
            assert limiter.ask([(KEY, 3)]) is None, "in the pause nobody is asked"
            assert limiter.take_in_turn([(KEY, 3)]) == [None]
        finally:
            redis.start()
    assert uncounted(observer) == ["away", "pause"]


def test_keys_do_not_touch(make: Make) -> None:
    limiter = make(RATE_WINDOW_SECONDS)
    assert not [taken(limiter, limit=1) for _ in range(2)][-1].allowed
    assert taken(limiter, "0f" * 32, limit=1).allowed


def test_what_is_refused_does_not_lengthen_the_window(make: Make) -> None:
    limiter = make(1)
    assert taken(limiter, limit=1).allowed
    wait_until(lambda: taken(limiter, limit=1).allowed, 60, "allowed again though others kept asking")


def test_exactly_the_limit_is_allowed_however_many_ask_at_once(make: Make) -> None:
    limiter = make(RATE_WINDOW_SECONDS)
    with ThreadPoolExecutor(16) as threads:
        seen = list(threads.map(lambda _: taken(limiter, limit=50), range(200)))
    assert sum(each.allowed for each in seen) == 50
    assert not taken(limiter, limit=50).allowed


def _take_many(url: str, count: int) -> int:
    with closing(RedisRateLimiter(url, RecordingObserver(), timeout_seconds=PATIENT)) as limiter:
        return sum(taken(limiter, limit=50).allowed for _ in range(count))


def test_processes_and_nodes_share_one_count_in_redis(redis: LocalRedis) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as processes:
        allowed = processes.starmap(_take_many, [(redis.url, 40)] * 3)
    assert sum(allowed) == 50
    assert all(count <= 40 for count in allowed)


def test_memory_forgets_what_has_ended() -> None:
    limiter = MemoryRateLimiter(window_seconds=1)
    for number in range(1_000):
        limiter.take(f"{number:064x}", 5)
    assert len(limiter._storage.storage) > 1

    def one_is_left() -> bool:
        taken(limiter)
        return list(limiter._storage.storage) == [KEY]

    wait_until(one_is_left, 60, "a storage that holds who still asks, and nobody else")


def test_memory_keeps_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    start, ours = threading.Thread.start, threading.current_thread()
    started: list[threading.Thread] = []

    def seen(thread: threading.Thread) -> None:
        # Servers that other tests left running start some meanwhile.
        if threading.current_thread() is ours:
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", seen)
    limiter = MemoryRateLimiter(window_seconds=1)
    wait_until(lambda: not taken(limiter).allowed, 60, "a limit at its end")
    # One comes with the storage, and is ended at once.
    assert len(started) <= 1
    assert not [each for each in started if each.is_alive()]


def test_memory_counts_exactly_while_windows_begin_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    clock = SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0])
    monkeypatch.setattr(memory, "time", clock)
    monkeypatch.setattr(storage, "time", clock)
    limiter = MemoryRateLimiter(window_seconds=1)

    def ask(_: int) -> int:
        return sum(taken(limiter, limit=50).allowed for _ in range(20))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads meet in the middle of everything
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(30):
                now[0] += 1.0
                assert sum(threads.map(ask, range(8))) == 50, "in the window that these began together"
    finally:
        sys.setswitchinterval(interval)


def test_redis_holds_a_hash_that_ends_by_itself(redis: LocalRedis, limiter: RateLimiter) -> None:
    taken(limiter)
    with redis.client() as client:
        assert client.keys() == [f"casvc:rate:{KEY}".encode()]
        assert 0 < client.ttl(f"casvc:rate:{KEY}") <= RATE_WINDOW_SECONDS


def test_a_count_that_lost_its_end_gets_one(redis: LocalRedis, limiter: RateLimiter) -> None:
    with redis.client() as client:
        client.set(f"casvc:rate:{KEY}", 7)
        assert not taken(limiter).allowed
        assert client.ttl(f"casvc:rate:{KEY}") > 0


@pytest.mark.parametrize("rubbish", [b"not a number", b"", [b"a", b"list"], 9_223_372_036_854_775_807, -5])
def test_rubbish_in_redis_lets_its_own_requests_through_and_no_others(
    redis: LocalRedis, limiter: RateLimiter, observer: RecordingObserver, rubbish: bytes | int | list[bytes]
) -> None:
    with redis.client() as client:
        if isinstance(rubbish, list):
            client.rpush(f"casvc:rate:{KEY}", *rubbish)
        else:
            client.set(f"casvc:rate:{KEY}", rubbish, ex=60)
    assert limiter.take(KEY, 3) is None
    assert observer.counted == [
        ("rate_limit_unavailable", {"reason": "nonsense"}),
        ("redis_error", {"use": "limits", "reason": "nonsense"}),
    ]
    assert taken(limiter, "0f" * 32).remaining == 2


def test_a_dead_redis_slows_no_request_and_is_found_again(redis: LocalRedis) -> None:
    observer, now = RecordingObserver(), [100.0]
    patient = RedisRateLimiter(redis.url, observer, timeout_seconds=PATIENT, clock=lambda: now[0])
    with closing(patient) as limiter:
        assert taken(limiter).remaining == 2
        redis.kill()
        try:
            assert [limiter.take(KEY, 3) for _ in range(500)] == [None] * 500
            assert uncounted(observer) == ["away"] + ["pause"] * 499
        finally:
            redis.start()
        assert limiter.take(KEY, 3) is None, "the pause is not over"
        now[0] += PAUSE_SECONDS
        assert taken(limiter).remaining == 2
        assert taken(limiter).remaining == 1


def test_a_silent_redis_holds_one_request_and_no_other(redis: LocalRedis) -> None:
    observer, now, numbers = RecordingObserver(), [100.0], itertools.count()
    with closing(RedisRateLimiter(redis.url, observer, clock=lambda: now[0])) as limiter:

        def with_a_new_key() -> Allowance | None:
            now[0] += PAUSE_SECONDS
            return limiter.take(f"{next(numbers):064x}", 9)

        def counted() -> Allowance:
            found = wait_until(with_a_new_key, 60, "a limiter that counts, also on a busy machine")
            assert found is not None
            return found

        counted()
        observer.counted.clear()
        redis.pause()
        try:
            assert [limiter.take(KEY, 3) for _ in range(100)] == [None] * 100
        finally:
            redis.resume()
        assert uncounted(observer) == ["away"] + ["pause"] * 99
        # An answer that comes late must not be taken for the answer to another question.
        assert [counted().remaining for _ in range(3)] == [8, 8, 8]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n" * 9,
        b":many\r\n" * 9,
        b"*2\r\n$3\r\none\r\n$3\r\ntwo\r\n" * 9,
        b"*-1\r\n" * 9,
        b"\xff\xfe\x00" * 100,
        b"-NOAUTH Authentication required.\r\n" * 9,
        b"",
    ],
)
def test_a_server_that_is_no_redis_lets_requests_go_on(answer: bytes) -> None:
    observer = RecordingObserver()
    with Impostor(answer) as url, closing(RedisRateLimiter(url, observer)) as limiter:
        assert [limiter.take(KEY, 3) for _ in range(20)] == [None] * 20
    assert len(uncounted(observer)) == 20


def test_a_url_that_names_no_redis_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url") as refused:
        RedisRateLimiter("redis://:secret@127.0.0.1:port/0", RecordingObserver())
    assert "secret" not in refused.value.message


def test_the_rights_that_the_documents_name_are_enough(
    redis: LocalRedis, observer: RecordingObserver
) -> None:
    rights = ["-@all", "+incrby", "+expire", "+ttl", "+evalsha", "+script|load"]
    with redis.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "limits", "on", ">word", "resetkeys", "~casvc:rate:*", *rights
        )
        client.script_flush()
    url = redis.url.replace("redis://", "redis://limits:word@")
    with closing(RedisRateLimiter(url, observer, timeout_seconds=PATIENT)) as limiter:
        assert [taken(limiter).remaining for _ in range(2)] == [2, 1]
    assert observer.counted == []


def test_trouble_is_named_for_the_operator_and_without_the_password(redis: LocalRedis) -> None:
    def trouble(url: str) -> str | None:
        with closing(RedisRateLimiter(url, RecordingObserver(), timeout_seconds=PATIENT)) as limiter:
            return limiter.trouble()

    assert trouble(redis.url) is None
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">word", "~casvc:rate:*", "-@all", "+evalsha")
    assert "can't run" in str(trouble(redis.url.replace("redis://", "redis://few:word@")))
    refused = str(trouble(redis.url.replace("redis://", "redis://few:hunter2@")))
    assert refused.startswith("AuthenticationError")
    assert "hunter2" not in refused
    with Impostor(b"-ERR \x1b[2J\r\n" * 9) as url:
        assert "\x1b" not in str(trouble(url))
    assert str(trouble("redis://127.0.0.1:1/0")).startswith("ConnectionError")
