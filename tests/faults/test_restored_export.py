"""The log's files through a restored backup: what was published stands, and the next shard is published."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.faults.test_restored_backup import back_up, put_back
from tests.support import static_log
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, production_service, running, wait_until
from tests.support.restored import issued


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file by its path, the checkpoint's and the description's included."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def published(files: Path) -> int:
    checkpoint = files / "checkpoint"
    return int(checkpoint.read_text().split("\n")[1]) if checkpoint.exists() else -1


def audited(
    service: RunningService, session: requests.Session, shard: str, read: Callable[[str], bytes]
) -> int:
    """The size of a tree in which everything agrees."""
    listed = session.get(f"{service.url}/trust/trusted_root.json", timeout=60).json()["ctlogs"]
    (log,) = [each for each in listed if str(each["baseUrl"]).endswith(f"/ctlog/{shard}")]
    key = load_der_public_key(base64.b64decode(log["publicKey"]["rawBytes"]))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return static_log.audit(read, f"{service.url.partition('//')[2]}/ctlog/{shard}", key).size


def test_published_files_outlive_a_rollback_and_the_next_shard_joins_them(
    tmp_path: Path, session: requests.Session
) -> None:
    with LocalIssuer() as issuer:
        service = production_service(
            tmp_path / "ca",
            issuers=issuer.issuer_file(),
            workers=1,
            environ={"CASVC_LOG__EXPORT_DIR": "public"},
        )
        public, shard = service.directory / "public", service.shard()
        with running(service):
            for _ in range(2):
                issued(service, session, issuer)
            back_up(service, tmp_path / "yesterday.db")
            issued(service, session, issuer)
            wait_until(lambda: published(public / shard) == 3, 60, "all three certificates as files")
        before = files_below(public / shard)
        put_back(tmp_path / "yesterday.db", service)
        service.admin("recover", "--accept-missing-crls", "--yes")

        with running(service):
            issued(service, session, issuer)
            rows = {row["shard"]: row for row in json.loads(service.admin("log", "list", "--json"))}
            assert rows.pop(shard)["state"] == "retired"
            ((new, row),) = rows.items()
            assert row["state"] == "active"
            wait_until(lambda: published(public / new) == 1, 60, "the new shard's certificate as a file")

            def over_http(name: str) -> Callable[[str], bytes]:
                def read(path: str) -> bytes:
                    reply = session.get(
                        f"{service.url}/ctlog/{name}/{path}",
                        headers={"Accept-Encoding": "identity"},
                        timeout=60,
                    )
                    assert reply.status_code == 200, path
                    return reply.content

                return read

            def said_to_be(state: str) -> bool:
                described = json.loads((public / shard / "log.v3.json").read_bytes())
                return list(described["state"]) == [state]

            # What the database forgot is still there; nothing but the description was written since.
            wait_until(lambda: said_to_be("retired"), 60, "the closed shard's files say so")
            after = files_below(public / shard)
            assert {path for path in before if before[path] != after[path]} == {"log.v3.json"}
            assert before.keys() == after.keys()
            assert audited(service, session, shard, lambda path: (public / shard / path).read_bytes()) == 3
            # The service has two of its entries, and they are the same octets.
            assert audited(service, session, shard, over_http(shard)) == 2
            for path in ("tile/0/000", "tile/data/000"):
                answered = over_http(shard)(f"{path}.p/2")
                assert answered
                assert (public / shard / f"{path}.p/3").read_bytes().startswith(answered)

            # The new shard's files are what the service answers; so are those of both in a folder begun anew.
            elsewhere = tmp_path / "elsewhere"
            service.admin("log", "export", "--dir", elsewhere)
            for folder, name in ((public, new), (elsewhere, new), (elsewhere, shard)):
                answer = over_http(name)
                for path, content in files_below(folder / name).items():
                    assert answer(path) == content, (name, path)
                assert audited(service, session, name, answer) == published(folder / name)
        checked = service.cli("fsck", "--json")
        assert checked.returncode == 0, checked.stdout
