"""The next issuing key takes over while certificates are issued; who fetched it before notices nothing.

On two nodes two keys follow each other, and the second one is not copied to the other node in time.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sigstore.errors import VerificationError
from sigstore.verify import Verifier, policy

from ca_service.pki.keys import key_id
from ca_service.vocabulary import format_seconds, parse_time
from tests.support.cluster import Cluster, question, verdict
from tests.support.processes import RunningService, free_port, http, run, wait_until
from tests.support.rekor import LocalRekor
from tests.support.rotation import EMAIL, Load, export, signed
from tests.support.signing import Issued
from tests.support.two_nodes import OwnPlace, copy_as_the_guide_says, own_place
from tests.support.verifier import (
    ask_ocsp,
    ca_issuers_url,
    crl_url,
    fetch_crl,
    ocsp_get_url,
    ocsp_url,
    openssl,
)

EACH_SIDE = 20
SOON = 11
"""Seconds; nothing can begin in less than ten."""


@pytest.fixture
def own(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OwnPlace]:
    with own_place(
        place, tmp_path, postgres=lambda: request.getfixturevalue("postgres_of_the_run")
    ) as started:
        yield started


@pytest.fixture
def session(own: OwnPlace) -> Iterator[requests.Session]:
    """An HTTP session of this test's own, which trusts its service."""
    with own.service.http() as opened:
        yield opened


@dataclass(frozen=True)
class Next:
    """A key that takes over, and where it is known since when (seconds since 1970)."""

    key: str
    starts: float
    known: dict[str, float]

    def rules(self, url: str) -> float:
        """From when on whoever asks there gets what it signed."""
        return max(self.starts, self.known[url])


def issued_by(key: str) -> Callable[[Issued], bool]:
    return lambda issued: key_id(issued.issuing.public_key()) == key


def rotated(own: OwnPlace, *when: str) -> tuple[str, float]:
    """Prepare a key on the first node; its id, and when it takes over."""
    one = own.machines[0]
    root = one.directory / "offline" / "root.key"
    prepared = json.loads(one.admin("rotate", "authority", "--root-key", root, *when, "--json"))
    return prepared["authority_key"], parse_time(prepared["starts"]).timestamp()


def taken_up(machine: RunningService, key: str) -> float:
    """When this node's workers had all said that they know a key, which nobody told them of."""
    said = f"the issuing key {key} is prepared"
    wait_until(lambda: machine.printed().count(said) == 2, 120, f"both workers of {machine.url} know {key}")
    return time.time()


def copy_folder(one: RunningService, other: RunningService, key: str) -> None:
    about = "rotate authority: a folder"
    copy_as_the_guide_says(one, other, about, "1cc2b13b2cba8a9a9b0b3a9b9d2f6f1f5e1a7c55", key)


def judged(own: OwnPlace, session: requests.Session, issued: Issued, folder: Path) -> tuple[str, str]:
    """What openssl says of a certificate by OCSP and by the lists that it and its issuer name."""
    issued.write(folder)
    assert session.get(ca_issuers_url(issued.leaf), timeout=60).content == issued.issuing.public_bytes(
        Encoding.DER
    )
    for name, certificate in (("shard", issued.leaf), ("root", issued.issuing)):
        (folder / f"{name}.crl").write_bytes(fetch_crl(session, certificate))
    by_lists = openssl(
        *("verify", "-x509_strict", "-extended_crl", "-crl_check_all", "-CAfile", "root.pem"),
        *("-untrusted", "issuing.pem", "-CRLfile", "shard.crl", "-CRLfile", "root.crl", "leaf.pem"),
        folder=folder,
        code=None,
    )
    verdict = "good" if "leaf.pem: OK" in by_lists else "revoked" if "certificate revoked" in by_lists else ""
    assert verdict, by_lists
    return ask_ocsp(folder, ocsp_url(issued.leaf)).status, verdict


def told_by(own: OwnPlace, issued: Issued) -> set[tuple[str, bool]]:
    """What each node itself says by OCSP, and whether its CRL lists it."""
    found = set()
    with http() as session:
        for machine in own.machines:

            def got(url: str, at: str = machine.url) -> bytes:
                reply = session.get(url.replace(own.service.status_url, at), timeout=60)
                assert reply.status_code == 200, (url, reply.status_code)
                return reply.content

            crl = x509.load_der_x509_crl(got(crl_url(issued.leaf)))
            assert crl.is_signature_valid(issued.issuing.public_key())  # type: ignore[arg-type]
            entry = crl.get_revoked_certificate_by_serial_number(issued.leaf.serial_number)
            by_ocsp = verdict(got(ocsp_get_url(issued.leaf, question(issued))))
            found.add((by_ocsp, entry is not None))
    return found


def test_the_next_authority_takes_over_under_load_and_the_first_keeps_its_status(
    own: OwnPlace, rekor: LocalRekor, session: requests.Session, tmp_path: Path
) -> None:
    ignorant = export(own, rekor, tmp_path / "ignorant")
    bundle_before = signed(own, ignorant)
    one, other = own.machines[0], own.machines[-1]
    load = Load(own)
    try:
        load.wait_for(EACH_SIDE, lambda _: True, "certificates of the first key")
        first = key_id(load.issued[0].issuing.public_key())
        if own.cluster is None:
            key, starts = rotated(own, "--now")
            keys = [Next(key, starts, {one.url: taken_up(one, key)})]
        else:
            keys = one_is_copied_and_one_is_not(own, own.cluster, load)
        last = keys[-1]
        for url in own.urls:
            address = f"{url}/ca/{last.key}.crt"
            assert session.get(address, timeout=60).status_code == 200
        informed = export(own, rekor, tmp_path / "informed")
        load.wait_for(
            EACH_SIDE,
            lambda given: issued_by(last.key)(given) and given.began > last.rules(other.url),
            "certificates of the next key",
        )
    finally:
        load.stop()
    assert not load.failed
    assert not load.refused, [reply.text for reply in load.refused]
    known = {first, *(each.key for each in keys)}
    assert {key_id(given.issuing.public_key()) for given in load.issued} == known
    for following in keys:
        before = [given for given in load.issued if given.answered < following.starts]
        assert not any(issued_by(following.key)(given) for given in before), "not before its time"
    for url in (one.url, other.url):
        at_last = [given for given in load.issued if given.url == url and given.began > last.rules(url)]
        assert at_last
        assert all(issued_by(last.key)(given) for given in at_last), "at once"

    some = {key: next(filter(issued_by(key), load.issued)) for key in (first, *(each.key for each in keys))}
    assert len({issued.issuing.subject for issued in some.values()}) == len(some)
    assert len({issued.root for issued in some.values()}) == 1
    for issued in some.values():
        assert issued.leaf.not_valid_before_utc >= issued.issuing.not_valid_before_utc

    bundle_after = signed(own, informed)
    who = policy.Identity(identity=EMAIL, issuer=own.issuer)
    for bundle in (bundle_before, bundle_after):
        Verifier(trusted_root=informed.trusted_root).verify_artifact(b"an artifact", bundle, who)
    Verifier(trusted_root=ignorant.trusted_root).verify_artifact(b"an artifact", bundle_before, who)
    with pytest.raises(VerificationError):
        Verifier(trusted_root=ignorant.trusted_root).verify_artifact(b"an artifact", bundle_after, who)

    for key, issued in some.items():
        folder = tmp_path / key
        assert told_by(own, issued) == {("GOOD", False)}
        assert judged(own, session, issued, folder) == ("good", "good")
        own.service.admin("revoke", "certificate", issued.serial)
        assert told_by(own, issued) == {("REVOKED", True)}
        wait_until(
            lambda issued=issued, folder=folder: (
                judged(own, session, issued, folder)  # type: ignore[misc]
                == ("revoked", "revoked")
            ),
            60,
            "nginx no longer has what was good",
        )
    for machine in own.machines:
        assert machine.admin("audit", "--json").count('"prepare-authority"') == len(keys)
        assert machine.cli("doctor", "--offline").returncode == 0


def one_is_copied_and_one_is_not(own: OwnPlace, cluster: Cluster, load: Load) -> list[Next]:
    """Two keys follow each other; the other node gets the second one long after it took over on the first."""
    one, other = own.machines
    (copied, starts), (late, late_starts) = (
        rotated(own, "--starts", format_seconds(int(time.time()) + SOON + more)) for more in (0, 2)
    )
    copy_folder(one, other, copied)
    known = {machine.url: taken_up(machine, copied) for machine in own.machines}
    examined = other.cli("doctor", "--offline")
    assert examined.returncode == 0 or time.time() >= late_starts, "nothing came yet of the one that it lacks"
    known_late = taken_up(one, late)

    at_both = Next(copied, starts, known)
    at_one = Next(late, late_starts, {one.url: known_late})
    wait_until(lambda: some_since(load, at_both, other.url), 120, "the copied key at the other node")
    wait_until(lambda: some_since(load, at_one, one.url), 120, "the late key at the one that has it")
    theirs = next(filter(issued_by(late), load.issued))
    lacks(own, cluster, late, theirs)
    lacked = time.time()
    copy_folder(one, other, late)
    known_late = taken_up(other, late)
    with http() as session:
        assert session.get(f"{other.url}/readyz", timeout=60).json()["checks"]["keys in use"] == "ok"
    for given in list(load.issued):
        if given.url == other.url and given.began > at_both.rules(other.url) and given.answered < lacked:
            assert issued_by(copied)(given), "at once, and until it has the next one"
        if given.url == one.url and given.began > at_one.rules(one.url):
            assert issued_by(late)(given), "at once"
    return [at_both, Next(late, late_starts, {**at_one.known, other.url: known_late})]


def some_since(load: Load, key: Next, url: str) -> bool:
    return bool(load.failed) or any(
        given.url == url and given.began > key.rules(url) for given in list(load.issued)
    )


def lacks(own: OwnPlace, cluster: Cluster, key: str, theirs: Issued) -> None:
    """What the other node says, and what it leaves to the one that has the key."""
    other = own.machines[1]
    with http() as session:
        reply = session.get(f"{other.url}/readyz", timeout=60)
        assert reply.status_code == 503
        assert reply.json()["checks"]["keys in use"].startswith("configuration: ")
    wanting = f"the database has CRLs of the issuing key {key}, which this host has not"
    assert any("a check fails" in line and wanting in line for line in other.printed().splitlines())
    examined = other.cli("doctor", "--offline")
    assert examined.returncode == 1
    assert key in examined.stdout
    again = run(
        *("serve", "--config", other.config, "--bind", f"127.0.0.1:{free_port()}"), environ=other.environ
    )
    assert again.returncode != 0
    assert wanting in again.stderr

    node = cluster.nodes[1]
    assert node.status(theirs) == "TRY_LATER"
    with own.service.http() as session:
        for _ in range(4):
            by_post = session.post(ocsp_url(theirs.leaf), data=question(theirs), timeout=60)
            by_get = session.get(ocsp_get_url(theirs.leaf, question(theirs)), timeout=60)
            assert {verdict(by_post.content), verdict(by_get.content)} == {"GOOD"}, "nginx asks who knows"
        there = crl_url(theirs.leaf).replace(own.service.status_url, other.url)
        assert session.get(there, timeout=60).status_code == 200, "as the other node signed it"
