"""Two nodes are one service: one log, one list of who is revoked, one count of requests."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from cryptography import x509

from tests.support.cluster import KEY, LIMIT, NOT_COPIED, Cluster, Load, question, somebody, verdict
from tests.support.issuer import LocalIssuer, issuer_file_of
from tests.support.processes import http, wait_until
from tests.support.signing import Issued, bearer, key_body
from tests.support.verifier import crl_url, ocsp_get_url


def test_both_are_ready_and_tell_strangers_no_paths_and_no_addresses(cluster: Cluster) -> None:
    cluster.wait_ready()
    for node in cluster.nodes:
        status, document = node.ready()
        assert status == 200
        assert set(document["checks"].values()) == {"ok"}
        assert {"database", "redis", "log", "high-water mark", "issuing keys", "keys in use"} == set(
            document["checks"]
        )


def test_the_second_was_made_as_the_guide_says(cluster: Cluster) -> None:
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "run-several-nodes.md"
    left_out = " ".join(f"--exclude=./{name}" for name in NOT_COPIED)
    assert f"tar -C /srv/ca {left_out} -cf - ." in guide.read_text()
    one, two = (node.service.directory for node in cluster.nodes)
    assert not (two / "offline").exists()
    assert (two / "private" / "issuing.key").read_bytes() == (one / "private" / "issuing.key").read_bytes()
    assert (two / "private" / "issuing.key").stat().st_mode & 0o077 == 0


def test_both_issue_at_once_into_one_log_without_a_gap(cluster: Cluster) -> None:
    with Load(cluster) as load, ThreadPoolExecutor(4) as threads:
        direct = list(threads.map(lambda number: cluster.issue(cluster.nodes[number % 2].url), range(24)))
        load.more()
    assert not load.refused, load.refused
    cluster.nothing_lost([*load.issued, *direct])


class Watcher:
    """Asks the same again and again, and keeps when each question began and what was answered."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.seen: list[tuple[float, str]] = []
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def since(self, moment: float) -> list[str]:
        """The answers to questions that began after this moment."""
        return [answer for began, answer in self.seen if began > moment]

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.seen.append((began, self._ask()))
            self._stop.wait(0.02)


def watchers(cluster: Cluster, issued: Issued) -> dict[str, Watcher]:
    """OCSP by GET and POST, and the CRL: of each node, and through nginx as the certificate names it."""
    by_get, by_crl = ocsp_get_url(issued.leaf, question(issued)), crl_url(issued.leaf)

    def got(url: str) -> bytes:
        with http() as session:
            reply = session.get(url, timeout=60)
        assert reply.status_code == 200, (url, reply.status_code)
        return reply.content

    def listed(url: str) -> str:
        crl = x509.load_der_x509_crl(got(url))
        entry = crl.get_revoked_certificate_by_serial_number(issued.leaf.serial_number)
        return "GOOD" if entry is None else "REVOKED"

    def at(url: str, place: str) -> str:
        return url.replace(cluster.nginx.status_url, place)

    made = {
        "nginx OCSP": Watcher(lambda: verdict(got(by_get))),
        "nginx CRL": Watcher(lambda: listed(by_crl)),
    }
    for number, node in enumerate(cluster.nodes):
        made[f"node {number} OCSP"] = Watcher(lambda node=node: verdict(got(at(by_get, node.url))))  # type: ignore[misc]
        made[f"node {number} CRL"] = Watcher(lambda node=node: listed(at(by_crl, node.url)))  # type: ignore[misc]
    return made


def test_a_revocation_on_one_is_seen_on_both_at_once_and_through_nginx_within_a_second(
    cluster: Cluster,
) -> None:
    issued = cluster.issue()
    with ExitStack() as stack:
        watching = watchers(cluster, issued)
        for each in watching.values():
            stack.enter_context(each)
        wait_until(lambda: all(len(each.seen) >= 8 for each in watching.values()), 120, "answers before it")
        cluster.nodes[1].service.admin("revoke", "certificate", issued.serial, "--reason", "keyCompromise")
        done = time.monotonic()
        wait_until(
            lambda: all(len(each.since(done + 1)) >= 8 for each in watching.values()), 120, "answers after it"
        )
    for name, each in watching.items():
        assert {answer for began, answer in each.seen if began < done - 60} <= {"GOOD"}
        assert each.seen[0][1] == "GOOD", name
        # A node itself is never late; nginx keeps what is good for half a second.
        allowed = done + 1 if "nginx" in name else done
        assert set(each.since(allowed)) == {"REVOKED"}, name


def test_what_is_revoked_is_published_by_one_node_before_anybody_asks(cluster: Cluster) -> None:
    cluster.wait_ready()
    wait_until(lambda: not dirty(cluster), 60, "nothing to publish")
    issued = cluster.issue()
    before = numbers(cluster)
    cluster.nodes[0].service.admin("revoke", "certificate", issued.serial)
    wait_until(lambda: not dirty(cluster), 60, "published without having been asked for")
    after = numbers(cluster)
    changed = {
        name: (before.get(name), number) for name, number in after.items() if before.get(name) != number
    }
    assert len(changed) == 1
    ((old, new),) = changed.values()
    assert old is not None
    assert new == old + 1, "four workers were woken, and one signed"
    assert sum(node.metric("publication_elected_total") for node in cluster.nodes) > 0


def dirty(cluster: Cluster) -> bool:
    found = cluster.sql("SELECT count(*) FROM crl_shards WHERE generation <> published_generation")
    return bool(found[0][0])


def numbers(cluster: Cluster) -> dict[str, int]:
    return dict(cluster.sql("SELECT name, crl_number FROM crl_shards"))


def test_who_is_blocked_on_one_gets_nothing_from_the_other(cluster: Cluster) -> None:
    email = somebody()
    with cluster.session() as session:
        for node in cluster.nodes:
            assert cluster.ask(session, node.url, email).status_code == 200
        cluster.nodes[0].service.admin("block", "--identity", email, "--reason", "left")
        for url in (cluster.nodes[1].url, cluster.nodes[0].url, cluster.url):
            refused = cluster.ask(session, url, email)
            assert refused.json()["details"][0]["reason"] == "identity-blocked"
        cluster.nodes[1].service.admin("unblock", "--identity", email, "--comment", "back")
        for node in cluster.nodes:
            wait_until(lambda: cluster.ask(session, node.url, email).status_code == 200, 60, "unblocked")  # noqa: B023 - done before the next


def test_a_new_issuer_is_known_where_its_file_was_copied_and_the_node_reloaded(cluster: Cluster) -> None:
    one, other = (node.service for node in cluster.nodes)
    file = other.directory / "issuers.yaml"
    before = file.read_text()
    with LocalIssuer() as new:

        def refused(url: str) -> str | None:
            email = somebody()
            with cluster.session() as session:
                reply = session.post(
                    f"{url}/api/v2/signingCert",
                    json=key_body(KEY, email),
                    headers=bearer(new.token(email)),
                    timeout=60,
                )
            return None if reply.status_code == 200 else str(reply.json()["details"][0]["reason"])

        file.write_text(issuer_file_of(cluster.signers, cluster.choosy, new))
        try:
            other.replace_workers()
            assert refused(other.url) is None
            assert refused(one.url) == "token-issuer-unknown", "it goes by its own file"
        finally:
            file.write_text(before)
            other.replace_workers()
        assert refused(other.url) == "token-issuer-unknown"


def test_both_count_an_identitys_requests_together(cluster: Cluster) -> None:
    cluster.wait_ready()
    email = somebody()

    def uncounted() -> float:
        return sum(node.metric("rate_limit_unavailable_total") for node in cluster.nodes)

    def ask(number: int) -> int:
        with http() as session:
            return cluster.ask(session, cluster.nodes[number % 2].url, email).status_code

    before = uncounted()
    with ThreadPoolExecutor(6) as threads:
        seen = Counter(threads.map(ask, range(LIMIT + 30)))
    assert set(seen) == {200, 429}
    assert LIMIT <= seen[200] <= LIMIT + uncounted() - before
