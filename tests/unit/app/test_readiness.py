"""What /readyz tells everybody, and what only the log is told."""

import logging

import pytest

from ca_service.app.readiness import NOT_ASKED, Readiness
from ca_service.errors import ConfigurationError, MarkMissing, StoreUnavailable


class Parts:
    """Parts that work until they are given a trouble."""

    def __init__(self) -> None:
        self.troubles: dict[str, Exception] = {}
        self.redis: str | None = None
        self.asked: list[str] = []
        self.readiness = Readiness(
            local={"issuing keys": lambda: self.check("issuing keys")},
            database=lambda: self.check("database"),
            stored={"high-water mark": lambda: self.check("high-water mark")},
            redis=lambda: self.redis,
        )

    def check(self, name: str) -> None:
        self.asked.append(name)
        if name in self.troubles:
            raise self.troubles[name]


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_what_fails_is_named_by_its_slug_and_without_a_path(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(parts.readiness.needed().values()) == {None}
    parts.troubles["high-water mark"] = MarkMissing("there is no mark in /srv/ca/mark/high-water.json")
    parts.troubles["issuing keys"] = ConfigurationError("/srv/ca/private/issuing.key cannot be read")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            said = parts.readiness.needed()
    assert str(said["high-water mark"]).startswith("mark-missing: ")
    assert str(said["issuing keys"]).startswith("configuration: ")
    assert "/srv" not in str(said)
    assert [record.message.count("/srv/ca/mark") for record in caplog.records].count(1) == 1, "told once"
    parts.troubles.clear()
    with caplog.at_level(logging.INFO):
        assert set(parts.readiness.needed().values()) == {None}
    assert "a check passes again: high-water mark" in caplog.messages


def test_a_trouble_that_follows_another_is_told_too(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    for said in ("no shard takes what is issued now", "log-2027.key cannot be read"):
        parts.troubles["high-water mark"] = ConfigurationError(said)
        for _ in range(2):
            parts.readiness.needed()
        assert [said in message for message in caplog.messages].count(True) == 1


def test_what_is_in_a_database_that_does_not_answer_is_not_asked(parts: Parts) -> None:
    parts.troubles["database"] = StoreUnavailable("connection to 10.0.0.9 failed")
    said = parts.readiness.needed()
    assert "10.0.0.9" not in str(said)
    assert said["high-water mark"] == NOT_ASKED
    assert parts.asked == ["issuing keys", "database"]


def test_redis_is_told_apart_from_what_is_needed(parts: Parts) -> None:
    parts.redis = "ConnectionError: Error 111 connecting to redis.internal:6379"
    (said,) = parts.readiness.extras().values()
    assert said is not None
    assert "redis.internal" not in said
    assert "redis" not in parts.readiness.needed()
    parts.redis = None
    assert parts.readiness.extras() == {"redis": None}
