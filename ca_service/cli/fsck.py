"""`fsck`: does everything that is stored agree, from the leaves' bytes to the signed CRLs?"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.bars import Bars
from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import config_option, json_option

if TYPE_CHECKING:
    from ca_service.cli.inspection import Progress, Subject
    from ca_service.settings import Settings


@click.command()
@config_option()
@click.option(
    "--resume",
    "state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep in FILE how far it came, and go on from there when it exists; removed at the end.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=None,
    help="How many processes inspect a large log.  [default: the processors of this machine]",
)
@click.option(
    "--no-mark",
    is_flag=True,
    help="Leave the high-water mark out: for a backup, which is older by its nature.",
)
@json_option
def fsck(
    settings: "Settings", state: Path | None, processes: int | None, no_mark: bool, as_json: bool
) -> int:
    """Inspect everything that is stored, and say what does not agree.

    Recomputes each log from its leaves: hashes, tiles, root and the signed head that the checkpoint shows.
    Compares every issued row and every precertificate with its leaf, every revocation with its issued row,
    every CRL with the revocations, and follows the chain of audit records. Compares the database with the
    high-water mark and with the log keys' files, the periods of the log's shards with each other, and has
    the database inspect its own file, tables and triggers. Nothing is signed and nothing is changed; the
    service may go on meanwhile.

    Each finding is one sentence: where, what was expected there, what was found. Exit code 1 when there is
    one.
    """
    from time import monotonic

    from ca_service.cli.inspection import Inspection, Progress, read_state
    from ca_service.cli.inspection.surroundings import Surroundings

    progress = Progress() if state is None else read_state(state)
    subject = _subject(settings)
    began = monotonic()
    with Bars() as display:
        Inspection(
            subject,
            Surroundings(settings, mark=not no_mark),
            progress,
            display.tell,
            state=state,
            processes=processes or os.cpu_count() or 1,
        ).run()
    _print(progress, monotonic() - began, as_json=as_json)
    return ANSWER_IS_NO if progress.count else DONE


def _subject(settings: "Settings") -> "Subject":
    from cryptography.hazmat.primitives.serialization import Encoding

    from ca_service.app import material
    from ca_service.cli.inspection import Subject

    first, *rotated = material.chains(settings)
    # The root, which all of them share, comes last.
    known = [*(chain[0] for chain in rotated), *first]
    return Subject(
        settings.database.url, settings.folder, tuple(one.public_bytes(Encoding.DER) for one in known)
    )


def _print(progress: "Progress", seconds: float, *, as_json: bool) -> None:
    if as_json:
        report = {
            "checked": progress.checked,
            "findings": [finding.members() for finding in progress.findings],
            "count": progress.count,
            "notes": progress.notes,
            "seconds": round(seconds, 1),
        }
        click.echo(json.dumps(report))
        return
    for finding in progress.findings:
        click.echo(f"{finding.sentence}  [{finding.rule}]")
    if progress.count > len(progress.findings):
        click.echo(f"… and {progress.count - len(progress.findings)} more")
    for note in progress.notes:
        click.echo(f"Note: {note}.")
    looked_at = ", ".join(f"{count:,} {what}" for what, count in progress.checked.items())
    click.echo(f"Inspected {looked_at} in {seconds:.1f} s.")
    click.echo(f"{progress.count} findings." if progress.count else "Everything agrees.")
