"""Turns: one thread at a time, work put off while others are ready, a stuck one passed over."""

import threading
import time
from collections.abc import Callable

from ca_service.authority.turns import Pause, Turns

PATIENCE = 60.0


def thread(target: Callable[[], object]) -> threading.Thread:
    started = threading.Thread(target=target, daemon=True)
    started.start()
    return started


def joined(*threads: threading.Thread) -> bool:
    for each in threads:
        each.join(PATIENCE)
    return not any(each.is_alive() for each in threads)


def test_without_turns_a_pause_begins_its_work_at_once_and_ends_when_it_is_woken() -> None:
    turns, pause = Turns(), Pause()
    assert turns.wait(pause, PATIENCE, lambda: turns.wake(pause))


def test_a_pause_that_ended_before_it_began_is_no_wait() -> None:
    turns, pause = Turns(), Pause()
    turns.wake(pause)
    assert turns.wait(pause, 0, lambda: None)


def test_a_pause_that_nobody_ends_is_over_in_time_and_the_turn_comes_back() -> None:
    turns, pause = Turns(), Pause()
    turns.take()
    assert not turns.wait(pause, 0.01, lambda: None)
    assert not turns.give_way(), "it has its turn again, and nobody wants it"
    turns.wake(pause)  # too late, and harmless


def test_only_one_thread_at_a_time_has_a_turn() -> None:
    turns = Turns()
    inside = 0
    most: list[int] = []

    def work() -> None:
        nonlocal inside
        for _ in range(50):
            turns.take()
            inside += 1
            most.append(inside)
            inside -= 1
            turns.leave()

    assert joined(*[thread(work) for _ in range(8)])
    assert set(most) == {1}
    assert len(most) == 400


def test_work_is_put_off_while_another_request_is_ready_and_then_done_once_for_both() -> None:
    turns = Turns()
    begun: list[int] = []
    pauses = [Pause(), Pause()]
    ready = [1]
    turns.serve(lambda: bool(ready))

    def work() -> None:
        begun.append(len(ready))
        for pause in pauses:
            turns.wake(pause)

    def first() -> None:
        turns.take()
        assert turns.wait(pauses[0], PATIENCE, work)
        turns.leave()

    def second() -> None:
        turns.rest()
        ready.clear()
        assert turns.wait(pauses[1], PATIENCE, work)
        turns.leave()

    resting = thread(second)
    deadline = time.monotonic() + PATIENCE
    while not vars(turns)["_resting"]:
        assert time.monotonic() < deadline
    assert joined(resting, thread(first))
    assert begun in ([0], [0, 0]), "not before the second request had come as far"


def test_a_thread_that_keeps_its_turn_loses_it_to_the_next() -> None:
    turns = Turns()
    stuck, done = threading.Event(), threading.Event()

    def keep() -> None:
        turns.take()
        stuck.set()
        done.wait(PATIENCE)
        assert turns.give_way(), "the turn is another's by now"

    def want() -> None:
        turns.take()
        done.set()
        turns.leave()

    holder = thread(keep)
    assert stuck.wait(PATIENCE)
    next_one = thread(want)
    while not done.wait(0.005):
        turns.watch()
    assert joined(holder, next_one)


def test_work_that_was_put_off_is_done_even_when_requests_never_end() -> None:
    turns, pause, begun = Turns(), Pause(), threading.Event()
    turns.serve(lambda: True)

    def wait() -> None:
        turns.take()
        turns.wait(pause, PATIENCE, begun.set)

    waiting = thread(wait)
    while not begun.wait(0.005):
        turns.watch()
    turns.wake(pause)
    assert joined(waiting)
