"""Long replies in pieces."""

import pytest

from ca_service.web.pacing import LONG, paced


class Reader:
    """A clock that goes on while a reader takes pieces, so many seconds for each."""

    def __init__(self, seconds: float) -> None:
        self.now = 100.0
        self.seconds = seconds

    def __call__(self) -> float:
        return self.now

    def read(self, body: list[bytes]) -> bytes:
        received = b""
        for piece in paced(body, self):
            received += piece
            self.now += self.seconds
        return received


class Closing(list[bytes]):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_reader_of_usual_speed_gets_all_of_it() -> None:
    body = [bytes(LONG * 8), b"", b"the end"]
    assert Reader(0.9).read(body) == b"".join(body)


def test_a_reader_that_is_too_slow_gets_no_more_and_the_body_is_closed() -> None:
    body = Closing([bytes(LONG * 8)])
    with pytest.raises(BlockingIOError):
        Reader(2.0).read(body)
    assert body.closed


def test_a_short_pause_is_made_up_for() -> None:
    reader = Reader(0.0)
    pieces = paced([bytes(LONG)], reader)
    next(pieces)
    reader.now += 9.0
    assert sum(len(piece) for piece in pieces) == LONG - 65_536
