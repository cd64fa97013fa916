"""How the benchmark counts the stacks that py-spy has seen, and what a look at a thread stands for."""

from pathlib import Path

import pytest

from scripts.benchmark.profile import _Spent, _weights, purpose
from scripts.benchmark.stacks import Stack, by_function, by_room, read_stacks, room

RAW = """\
thread (12): ThreadPoolExecutor-0_3;run (threading.py:982);issue (ca_service/authority/issuance.py:1);sign (ca_service/pki/signatures.py:1) 3
thread (13): ThreadPoolExecutor-0_4;run (threading.py:982);issue (ca_service/authority/issuance.py:1);dumps (json/encoder.py:1) 2
thread (14): log-sequencer;run (threading.py:982);_run (ca_service/store/batches.py:1) 4
process 1 without a thread 9
"""  # noqa: E501 - as py-spy writes it


def test_stacks_are_read_by_what_their_thread_is_for(tmp_path: Path) -> None:
    file = tmp_path / "raw"
    file.write_text(RAW)
    stacks = list(read_stacks(file, purpose))
    assert [(stack.thread, stack.count) for stack in stacks] == [
        ("requests", 3),
        ("requests", 2),
        ("log-sequencer", 4),
    ]
    rooms = {name: sum(counts.values()) for (name, _), counts in by_room(stacks).items()}
    assert rooms == {"ca_service.pki.signatures": 3, "Python's library": 2, "ca_service.store.batches": 4}
    functions = {name: sum(counts.values()) for (name, _), counts in by_function(stacks).items()}
    assert functions["issue (authority/issuance.py)"] == 5


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("ca_service/web/fulcio.py", "ca_service.web.fulcio"),
        ("gunicorn/http/parser.py", "gunicorn"),
        ("threading.py", "waiting and waking (threading, selectors)"),
        ("<frozen os>", "Python's library"),
    ],
)
def test_a_file_belongs_to_a_room_or_a_library(file: str, expected: str) -> None:
    assert room(file) == expected


def test_time_without_a_core_after_waits_is_taken_from_the_lines_that_wait() -> None:
    stacks = [Stack("requests", ["f (a.py:1)"], 60, waiting=False)]
    stacks += [Stack("requests", ["f (a.py:2)"], 60, waiting=True)]
    spent = {"requests": _Spent(seconds=2.0)}
    quiet = _weights(stacks, spent, {"requests": _Spent(seconds=1.0, waits=100)})
    assert quiet["requests", True] == pytest.approx(quiet["requests", False])
    busy = _weights(stacks, spent, {"requests": _Spent(seconds=1.0, without_core=0.4, waits=100)})
    assert busy["requests", True] < busy["requests", False]
    for weights in (quiet, busy):
        assert 60 * sum(weights.values()) == pytest.approx(2.0)  # the kernel's account, shared out
