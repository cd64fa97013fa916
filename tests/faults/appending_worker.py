"""A worker for the fault tests: appends in 16 threads and says what was acknowledged, until it is killed."""

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_service.merkle.tree import leaf_hash
from ca_service.store.database import Database
from ca_service.vocabulary import TimestampMs
from tests.support.store import TestLog, pending

THREADS = 16


def real_clock() -> TimestampMs:
    """The machine's time."""
    return TimestampMs(time.time_ns() // 1_000_000)


def main(folder: Path, url: str) -> None:
    """Append without end; one line of JSON on stdout for each acknowledged entry, written at once."""
    key = load_pem_private_key((folder / "log.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    sequencer = TestLog(key=key).sequencer(Database(url, folder=folder, lock_timeout=60), real_clock)
    numbers = random.SystemRandom()

    def append_without_end() -> None:
        while True:
            entry = pending(serial=numbers.getrandbits(158) + 1)
            sequenced = sequencer.append(entry)
            line = json.dumps([entry.serial, sequenced.leaf_index, leaf_hash(sequenced.leaf).hex()])
            os.write(sys.stdout.fileno(), line.encode() + b"\n")

    threads = [threading.Thread(target=append_without_end) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
