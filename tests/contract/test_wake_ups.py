"""ports.WakeUps: hints that reach this process, or through Redis all of them, and can do nothing else."""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from ca_service.authority.ports import WakeUps
from ca_service.cache.redis_wake_ups import RedisWakeUps
from ca_service.cache.wake_ups import MemoryWakeUps, wake_ups_of
from ca_service.errors import ConfigurationError
from tests.support.impostor import Impostor
from tests.support.processes import wait_until
from tests.support.redis_server import LocalRedis
from tests.support.store import RecordingObserver

PATIENT = 60.0
SERVICE = "5e" * 16
_fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def redis() -> Iterator[LocalRedis]:
    with LocalRedis() as started:
        yield started


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


def over(url: str, observer: RecordingObserver, service: str = SERVICE) -> RedisWakeUps:
    return RedisWakeUps(url, service, observer, timeout_seconds=PATIENT)


def begun(wake_ups: WakeUps) -> WakeUps:
    """What listens, and has taken the wake-up with which it begins."""
    wake_ups.wait(0)
    if isinstance(wake_ups, RedisWakeUps):
        assert wake_ups.subscribed.wait(PATIENT)
        assert wake_ups.wait(PATIENT), "it looks once after it has subscribed"
    return wake_ups


@pytest.fixture(params=["memory", "redis"])
def wake_ups(
    request: pytest.FixtureRequest, redis: LocalRedis, observer: RecordingObserver
) -> Iterator[WakeUps]:
    made: WakeUps = MemoryWakeUps() if request.param == "memory" else over(redis.url, observer)
    with closing(made):
        yield begun(made)


def quiet(wake_ups: WakeUps) -> bool:
    """Whether nothing more comes: the last of what was sent has been taken."""
    return not wake_ups.wait(0.05)


def test_who_sleeps_is_woken(wake_ups: WakeUps) -> None:
    wait_until(lambda: quiet(wake_ups), PATIENT, "nothing")
    sender = threading.Timer(0.05, wake_ups.send)
    sender.start()
    assert wake_ups.wait(PATIENT)
    sender.join()


def test_what_was_sent_before_is_not_lost_and_many_are_few(wake_ups: WakeUps) -> None:
    wait_until(lambda: quiet(wake_ups), PATIENT, "nothing")
    for _ in range(1000):
        wake_ups.send()
    assert wake_ups.wait(PATIENT)
    times = 1
    while wake_ups.wait(0.2):
        times += 1
    assert times < 500, "they are taken together"


def test_nobody_is_woken_by_nothing(wake_ups: WakeUps) -> None:
    wait_until(lambda: quiet(wake_ups), PATIENT, "nothing")
    assert not wake_ups.wait(0.05)


def test_closing_wakes_who_sleeps_and_ends_its_thread(wake_ups: WakeUps) -> None:
    closer = threading.Timer(0.05, wake_ups.close)
    closer.start()
    assert wake_ups.wait(PATIENT)
    closer.join()

    def no_thread() -> bool:
        return not [each for each in threading.enumerate() if each.name == "wake-ups"]

    wait_until(no_thread, PATIENT, "no thread left")


def _woken_in_a_child(wake_ups: WakeUps, told: "multiprocessing.connection.Connection") -> None:
    begun(wake_ups)
    told.send("listening")
    wait_until(lambda: wake_ups.wait(1.0), PATIENT, "a wake-up")
    told.send("woken")
    wake_ups.close()


def test_processes_forked_after_it_was_made_are_all_woken(
    redis: LocalRedis, observer: RecordingObserver
) -> None:
    made = over(redis.url, observer)
    pipes = [_fork.Pipe() for _ in range(3)]
    children = [_fork.Process(target=_woken_in_a_child, args=(made, end)) for _, end in pipes]
    for child in children:
        child.start()
    for ours, _ in pipes:
        assert ours.poll(PATIENT)
        assert ours.recv() == "listening"
    with closing(made):
        made.send()
        for ours, _ in pipes:
            assert ours.poll(PATIENT)
            assert ours.recv() == "woken"
    for child in children:
        child.join(PATIENT)
        assert child.exitcode == 0
    assert observer.counted == []


def test_another_service_in_the_same_redis_is_not_woken(
    redis: LocalRedis, observer: RecordingObserver
) -> None:
    with closing(over(redis.url, observer)) as ours, closing(over(redis.url, observer, "0f" * 16)) as other:
        begun(ours)
        begun(other)
        ours.send()
        assert ours.wait(PATIENT)
        assert quiet(other)


def test_a_redis_that_died_is_found_again_and_who_missed_something_looks(redis: LocalRedis) -> None:
    observer = RecordingObserver()
    with closing(over(redis.url, observer)) as wake_ups:
        begun(wake_ups)
        redis.kill()
        try:
            wait_until(lambda: not wake_ups.subscribed.is_set(), PATIENT, "a subscription that is lost")
            for _ in range(100):
                wake_ups.send()
            assert wake_ups.wait(0), "this process is woken all the same"
        finally:
            redis.start()
        assert wake_ups.subscribed.wait(PATIENT)
        assert wake_ups.wait(PATIENT), "what was missed is looked for"
        wait_until(lambda: quiet(wake_ups), PATIENT, "nothing")
        with redis.client() as client:
            assert client.publish(wake_ups.channel, b"") == 1
        assert wake_ups.wait(PATIENT)
    assert ("redis_error", {"use": "wake-ups", "reason": "away"}) in observer.counted
    assert {event for event, _ in observer.counted} == {"redis_error"}


def test_a_redis_that_fell_silent_is_left_and_found_again(redis: LocalRedis) -> None:
    observer = RecordingObserver()
    made = RedisWakeUps(redis.url, SERVICE, observer, timeout_seconds=PATIENT, silence_seconds=0.3)
    with closing(made) as wake_ups:
        wake_ups.wait(0)
        assert wake_ups.subscribed.wait(PATIENT)
        redis.pause()
        try:
            wait_until(lambda: observer.counted, PATIENT, "silence that was noticed")
        finally:
            redis.resume()
        assert wake_ups.subscribed.wait(PATIENT)


def test_messages_of_any_content_and_number_are_only_hints(
    redis: LocalRedis, observer: RecordingObserver
) -> None:
    with closing(over(redis.url, observer)) as wake_ups, redis.client() as client:
        begun(wake_ups)
        for lie in (b"", b"revoked:00", b"\xff" * 10_000, b"*1\r\n$-1\r\n", b"x" * 8_000_000):
            client.publish(wake_ups.channel, lie)
            assert wake_ups.wait(PATIENT)
        for _ in range(5_000):
            client.publish(wake_ups.channel, b"flood" * 100)
        assert wake_ups.wait(PATIENT)
        assert wake_ups.subscribed.wait(PATIENT)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n" * 50,
        b":many\r\n" * 50,
        b"\xff\xfe\x00" * 1000,
        b"-NOAUTH Authentication required.\r\n" * 9,
        b"-READONLY You can't write against a read only replica.\r\n" * 9,
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n" * 9,
        b"",
    ],
)
def test_a_server_that_is_no_redis_wakes_nobody_and_stops_nobody(answer: bytes) -> None:
    observer = RecordingObserver()
    with Impostor(answer) as url, closing(over(url, observer)) as wake_ups:
        wake_ups.wait(0)
        wait_until(lambda: len(observer.counted) >= 2, PATIENT, "tries that were counted")
        assert not wake_ups.subscribed.is_set()
        wake_ups.send()
        assert wake_ups.wait(PATIENT)
    assert {event for event, _ in observer.counted} == {"redis_error"}


def test_the_rights_that_the_documents_name_are_enough(
    redis: LocalRedis, observer: RecordingObserver
) -> None:
    with redis.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "wakes", "on", ">word", "resetkeys", "resetchannels", "&casvc:wake:*"),
            *("-@all", "+publish", "+subscribe", "+ping"),
        )
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">word", "resetchannels", "-@all", "+ping")
    with closing(over(redis.url.replace("redis://", "redis://wakes:word@"), observer)) as wake_ups:
        begun(wake_ups)
        wake_ups.send()
        assert wake_ups.wait(PATIENT)
        assert wake_ups.trouble() is None
    assert observer.counted == []
    with closing(over(redis.url.replace("redis://", "redis://deaf:word@"), observer)) as wake_ups:
        assert "no permissions" in str(wake_ups.trouble())
        assert "word" not in str(wake_ups.trouble())
        wake_ups.wait(0)
        wait_until(lambda: observer.counted, PATIENT, "a refusal that was counted")
        assert observer.counted[0] == ("redis_error", {"use": "wake-ups", "reason": "nonsense"})


def test_the_choice_is_the_url(redis: LocalRedis, observer: RecordingObserver) -> None:
    assert isinstance(wake_ups_of("", "https://ca.example", observer), MemoryWakeUps)
    ours, same, other = (
        wake_ups_of(redis.url, name, observer)
        for name in ("https://ca.example", "https://ca.example", "https://other.example")
    )
    assert isinstance(ours, RedisWakeUps)
    assert isinstance(same, RedisWakeUps)
    assert isinstance(other, RedisWakeUps)
    assert ours.channel == same.channel != other.channel
    assert "example" not in ours.channel
    with pytest.raises(ConfigurationError, match=r"redis\.url") as refused:
        wake_ups_of("redis://:secret@127.0.0.1:port/0", "https://ca.example", observer)
    assert "secret" not in refused.value.message


def test_nothing_is_opened_before_somebody_waits(redis: LocalRedis, observer: RecordingObserver) -> None:
    with redis.client() as client:

        def connected() -> set[str]:
            return {each["id"] for each in client.client_list()}

        before = connected()
        with closing(over(redis.url, observer)):
            assert connected() <= before
