"""Fuzz one target: python -m tests.fuzz TARGET [libFuzzer's options] FOLDER, which keeps what was found."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ca_service", "tests.fuzz", "joserfc"]):
    from tests.fuzz.targets import targets


def main() -> None:
    """Write the seeds into the folder and feed the target until time or inputs end."""
    name, *options = sys.argv[1:]
    target = targets()[name]
    folder = Path(options[-1])
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    # No target reads a clock or a network, so that what was found once is found again.
    atheris.Setup([sys.argv[0], f"-max_len={target.longest}", *options], target.feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
