"""Exceptions in the log: all of where they came from, and no words that a caller may have chosen."""

import io
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ca_service.errors import StoreUnavailable
from ca_service.telemetry.logs import configure_logs, record_fault
from ca_service.telemetry.tracebacks import WITHHELD, format_exception

SUBJECT = "repo:acme/secret-project:ref:refs/heads/main"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    def fail() -> None:
        raise error from cause

    try:
        fail()
    except BaseException as caught:  # noqa: BLE001 - any, to be written
        return caught
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "error",
    [
        KeyError(SUBJECT),
        ValueError(f"invalid literal for int(): {SUBJECT!r}"),
        UnicodeEncodeError("ascii", SUBJECT, 0, 1, SUBJECT),
        FileNotFoundError(2, "No such file or directory", SUBJECT),
        RuntimeError(SUBJECT),
    ],
    ids=lambda error: type(error).__name__,
)
def test_words_that_a_caller_may_have_chosen_are_left_out(error: Exception) -> None:
    written = format_exception(raised(StoreUnavailable("the database failed"), raised(error)))
    assert SUBJECT not in written
    assert "secret-project" not in written
    assert type(error).__name__ in written
    assert "This led to:" in written
    assert written.endswith("ca_service.errors.StoreUnavailable: the database failed")
    assert "test_tracebacks.py" in written


def test_words_of_the_program_itself_stay() -> None:
    found = format_exception(raised(AttributeError("'NoneType' object has no attribute 'serial'")))
    assert found.endswith("AttributeError: 'NoneType' object has no attribute 'serial'")
    assert format_exception(raised(PermissionError(13, "Permission denied", "/x"))).endswith(
        "PermissionError: Permission denied"
    )


def test_exceptions_that_lead_to_each_other_end() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert format_exception(first).count(WITHHELD) == 2


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logs("debug", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_every_logger_writes_exceptions_so(stream: io.StringIO) -> None:
    record_fault("0123456789abcdef", raised(KeyError(SUBJECT)))
    try:
        int(SUBJECT)
    except ValueError:
        logging.getLogger("some.library").exception("it failed")
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(records) == 2
    assert all(WITHHELD in record["exception"] for record in records)
    assert SUBJECT not in stream.getvalue()


def test_what_nobody_catches_is_a_json_line_too() -> None:
    program = f"""
        import threading
        from ca_service.telemetry.logs import configure_logs
        from ca_service.telemetry.tracebacks import log_uncaught
        configure_logs("info")
        log_uncaught()
        def work():
            raise KeyError("{SUBJECT}")
        thread = threading.Thread(target=work, name="housekeeping")
        thread.start()
        thread.join()
        class Ends:
            def __del__(self):
                raise ValueError("{SUBJECT}")
        Ends()
        raise RuntimeError("{SUBJECT}")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["level"] for record in records] == ["error", "error", "critical"]
    assert records[0]["thread"] == "housekeeping"
    # The program itself is in no file, so that not even its own lines are shown.
    assert SUBJECT not in done.stderr
