"""A thread that may not wait is told so where it would, and goes by answers that others keep fresh."""

import threading

import pytest

from ca_service.authority.waiting import Lately, WouldWait, about_to_wait, at_once, may_wait


def test_only_the_thread_that_said_so_may_not_wait_and_only_meanwhile() -> None:
    others: list[bool] = []
    with at_once():
        with pytest.raises(WouldWait):
            about_to_wait()
        thread = threading.Thread(target=lambda: others.append(may_wait()))
        thread.start()
        thread.join()
    about_to_wait()
    assert others == [True]


def test_it_ends_however_the_block_is_left() -> None:
    with pytest.raises(ZeroDivisionError), at_once():
        raise ZeroDivisionError
    assert may_wait()


def test_no_handler_of_errors_takes_it_for_one() -> None:
    assert not issubclass(WouldWait, Exception)


def test_an_answer_is_asked_for_when_it_is_no_longer_fresh() -> None:
    now = [10.0]
    lately = Lately(0.1, 1.0, lambda: now[0])
    assert lately.is_due()
    lately.went_well()
    now[0] += 0.09
    assert not lately.is_due()
    now[0] += 0.02
    assert lately.is_due()
    assert lately.is_due(), "it did not go well since"


def test_of_those_who_may_not_wait_one_makes_way_for_the_question_and_the_others_go_on() -> None:
    now = [10.0]
    lately = Lately(0.1, 1.0, lambda: now[0])
    lately.went_well()
    now[0] += 0.2
    with at_once():
        assert [lately.is_due() for _ in range(5)] == [True, False, False, False, False]
        now[0] += 0.2
        assert lately.is_due(), "nobody answered it, so another one asks"
        now[0] += 1.0
        assert [lately.is_due() for _ in range(3)] == [True] * 3, "too old to go by"
    lately.went_well()
    with at_once():
        assert not lately.is_due()
