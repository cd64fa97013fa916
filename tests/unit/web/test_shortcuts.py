"""A reply that is not there yet: led on step by step, given up, or begun anew where one may wait."""

from collections.abc import Generator, Iterable

import pytest

from ca_service.authority.waiting import WouldWait, about_to_wait, at_once
from ca_service.errors import LogBusy
from ca_service.web.shortcuts import Pending, QuickReply, Unfinished

REPLY = QuickReply("text/plain", (), b"done")


class Work:
    """Two steps to the wait and two after it; it notes what was done, and breaks where a test says."""

    def __init__(self, breaks: str = "") -> None:
        self.breaks = breaks
        self.done: list[str] = []
        self.told: list[QuickReply | Exception] = []

    def pending(self) -> Pending:
        unfinished = Unfinished(self._prepare(), self._finish, lambda: None, self.done.append)
        return Pending(unfinished, self._answer)

    def _step(self, name: str) -> None:
        if self.breaks == name:
            raise LogBusy("enough")
        if self.breaks == f"waits {name}":
            about_to_wait()
        self.done.append(name)

    def _prepare(self) -> Generator[None, None, str]:
        self._step("first")
        yield
        self._step("second")
        return "prepared"

    def _finish(self, prepared: str) -> Generator[None, None, QuickReply]:
        assert prepared == "prepared"
        self._step("third")
        yield
        self._step("fourth")
        return REPLY

    def _answer(self, outcome: QuickReply | Exception) -> Iterable[bytes]:
        self.told.append(outcome)
        return (b"",)


def test_each_call_is_one_step_and_the_last_one_of_each_half_says_so() -> None:
    work = Work()
    pending = work.pending()
    assert [pending.advance(), pending.advance()] == [False, True]
    assert not pending.failed
    assert [pending.finish() is None, pending.finish() is None] == [True, False]
    assert work.done == ["first", "second", "third", "fourth"]
    assert work.told == [REPLY]


@pytest.mark.parametrize("where", ["first", "second"])
def test_what_fails_before_the_wait_need_not_wait_and_has_nothing_to_take_back(where: str) -> None:
    work = Work(breaks=where)
    pending = work.pending()
    while not pending.advance():
        pass
    assert pending.failed
    pending.withdraw()
    assert "prepared" not in work.done, "nothing was handed over"
    assert pending.finish() is not None
    assert [type(outcome) for outcome in work.told] == [LogBusy]


def test_what_is_given_up_is_taken_back() -> None:
    work = Work()
    pending = work.pending()
    while not pending.advance():
        pass
    pending.withdraw()
    assert work.done[-1] == "prepared"


def test_an_end_that_would_wait_is_reached_in_a_thread_that_may() -> None:
    work = Work(breaks="waits third")
    pending = work.pending()
    while not pending.advance():
        pass
    with at_once(), pytest.raises(WouldWait):
        pending.finish()
    while pending.finish() is None:
        pass
    assert work.told == [REPLY]


def test_it_is_over_once_it_was_answered_and_not_before() -> None:
    work, over = Work(), []
    pending = work.pending()
    pending.over = lambda: over.append(True)
    while not pending.advance():
        pass
    assert pending.finish() is None
    assert not over
    pending.finish()
    assert over == [True]


def test_it_is_no_body_that_a_server_could_send() -> None:
    with pytest.raises(TypeError, match="not there yet"):
        iter(Work().pending())
