"""Lists carried away from the service: what a copy holds, what `status --offline` concludes from it."""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509

from ca_service.cli import fetching
from ca_service.cli.crl_mirror import copy, place_of
from ca_service.errors import StatusUnanswered
from tests.unit.cli.conftest import URL, Host, run


@pytest.fixture
def mirror(host: Host, tmp_path: Path) -> Path:
    """A fresh copy of the host's lists."""
    folder = tmp_path / "mirror"
    done = run("crl", "mirror", folder, "--config", host.config)
    assert done.exit_code == 0, done.output
    assert "2 lists, 2 of them new" in done.stdout, "the shard of the one certificate, and the root's"
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing answers."""

    def fetch(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        raise AssertionError(f"{url} was asked for")

    monkeypatch.setattr(fetching, "fetch", fetch)


def shard_of(host: Host, mirror: Path) -> Path:
    points = host.leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name is not None
    return mirror / place_of(str(points[0].full_name[0].value))


def offline(host: Host, mirror: Path) -> tuple[int, dict[str, object], str]:
    done = run("status", host.leaf_file, "--config", host.config, "--offline", mirror, "--json")
    facts: dict[str, object] = json.loads(done.stdout) if done.stdout else {}
    return done.exit_code, facts, done.stderr


def test_a_copy_is_judged_as_the_service_is(host: Host, mirror: Path) -> None:
    code, facts, _ = offline(host, mirror)
    assert (code, facts["status"], facts["source"], facts["remarks"]) == (0, "good", "crl", [])
    run("revoke", "certificate", host.serial, "--config", host.config, "--reason", "superseded")
    assert offline(host, mirror)[0] == 0, "an older copy, that still holds, cannot know"
    again = run("crl", "mirror", mirror, "--status-url", f"{URL}/", "--json")
    assert json.loads(again.stdout) == {"folder": str(mirror), "lists": 2, "fetched": 1}
    code, facts, _ = offline(host, mirror)
    assert (code, facts["status"], facts["reason"]) == (1, "revoked", "superseded")
    quiet = run("crl", "mirror", mirror, "--status-url", URL, "--json")
    assert json.loads(quiet.stdout)["fetched"] == 0


@pytest.mark.usefixtures("no_network")
def test_nobody_is_asked_and_the_index_says_what_is_there(host: Host, mirror: Path) -> None:
    assert offline(host, mirror)[0] == 0
    index = json.loads((mirror / "crl/index.json").read_bytes())["crls"]
    assert len(index) == 2
    for entry in index:
        content = (mirror / place_of(entry["url"])).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("damage", ["missing", "altered", "of another shard", "cut", "half copied"])
def test_a_copy_that_is_not_whole_and_true_proves_nothing(host: Host, mirror: Path, damage: str) -> None:
    file, index = shard_of(host, mirror), mirror / "crl/index.json"
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "altered":
        index.unlink()
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "of another shard":
        index.unlink()
        (root,) = [each for each in mirror.rglob("*.crl") if each.name == "root.crl"]
        file.write_bytes(root.read_bytes())
    elif damage == "cut":
        index.unlink()
        file.write_bytes(content[:100])
    else:
        document = json.loads(index.read_bytes())
        for entry in document["crls"]:
            entry["number"], entry["sha256"] = entry["number"] + 1, "0" * 64
        index.write_text(json.dumps(document))
    code, _, told = offline(host, mirror)
    assert code == 3
    assert "no trustworthy answer" in told


def test_offline_one_must_say_whom_to_believe_and_which_certificate(host: Host, mirror: Path) -> None:
    assert run("status", host.leaf_file, "--offline", mirror).exit_code == 2
    assert run("status", host.serial, "--config", host.config, "--offline", mirror).exit_code == 2


def test_a_list_never_goes_back_and_is_what_its_index_says(
    host: Host, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, file = fetching.fetch, shard_of(host, mirror)
    old = file.read_bytes()
    old_index = answered(f"{URL}/crl/index.json")
    run("revoke", "certificate", host.serial, "--config", host.config)
    copy(URL, mirror)
    new = file.read_bytes()
    assert new != old

    def restored(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        return old_index if url.endswith("index.json") else old if "root" not in url else answered(url)

    monkeypatch.setattr(fetching, "fetch", restored)
    with pytest.raises(StatusUnanswered, match="went back"):
        copy(URL, mirror)
    assert file.read_bytes() == new

    def altered(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        return answered(url) if url.endswith("index.json") else old

    monkeypatch.setattr(fetching, "fetch", altered)
    file.unlink()
    with pytest.raises(StatusUnanswered, match="not the one that the index names"):
        copy(URL, mirror)
    assert not file.exists()


def test_a_list_that_is_newer_than_the_index_is_found_by_the_next_index(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = fetching.fetch
    stale = [answered(f"{URL}/crl/index.json")]
    run("revoke", "certificate", host.serial, "--config", host.config)

    def late(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        return stale.pop() if url.endswith("index.json") and stale else answered(url)

    monkeypatch.setattr(fetching, "fetch", late)
    assert copy(URL, tmp_path / "mirror").listed == 2
    assert offline(host, tmp_path / "mirror")[0] == 1


def test_an_index_names_no_place_outside_the_mirror(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"url": f"{URL}/crl/../../../etc/x.crl", "number": 1, "sha256": "0" * 64}
    monkeypatch.setattr(fetching, "fetch", lambda *_: json.dumps({"crls": [entry]}).encode())
    with pytest.raises(StatusUnanswered, match="not the address of a list"):
        copy(URL, tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()
