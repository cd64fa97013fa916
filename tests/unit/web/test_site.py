"""The trust files, health, and the page for people."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from flask.testing import FlaskClient

from ca_service.errors import StoreUnavailable
from ca_service.identity.issuers import IssuerDirectory
from tests.unit.web.conftest import World

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Checks that every element is closed, and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        members = dict(attrs)
        assert not [name for name in members if name.startswith("on") or name == "style"]
        if "id" in members:
            self.ids.append(members["id"] or "")
        if tag == "a":
            self.links.append(members["href"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_has_no_script_and_links_only_to_what_exists(client: FlaskClient) -> None:
    reply = client.get("/")
    assert reply.content_type == "text/html; charset=utf-8"
    page = Page(reply.text)
    assert page.open == []
    assert "script" not in page.seen
    assert page.seen.count("h1") == 1
    assert {"main", "nav", "header", "footer", "table"} <= set(page.seen)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif not link.startswith("/ca/"):
            assert client.get(link).status_code == 200, link


def test_the_pages_one_style_is_the_only_thing_its_policy_allows(client: FlaskClient) -> None:
    reply = client.get("/")
    styles = re.findall(r"<style>(.*?)</style>", reply.text, re.DOTALL)
    assert len(styles) == 1
    digest = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    policy = reply.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_what_operators_write_is_text_not_html(client: FlaskClient) -> None:
    text = client.get("/").text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "Example &amp; &lt;Sons&gt;" in text


def test_the_page_names_keys_log_and_addresses(client: FlaskClient, world: World) -> None:
    text = client.get("/").text
    for certificate in world.authority.chain:
        assert certificate.fingerprint(hashes.SHA256()).hex() in text
    assert world.authority.key_id in text
    assert (b"L" * 32).hex() in text
    assert "300 certificates" in text
    assert "http://ca.example/ocsp" in text
    assert "https://oidc.*.example.com/id/*" in text
    assert "--fulcio-url https://ca.example" in text
    assert "development service" not in text


def test_the_page_stays_up_when_the_log_cannot_be_read(client: FlaskClient, world: World) -> None:
    world.reader.trouble = StoreUnavailable("the database does not answer")
    reply = client.get("/")
    assert reply.status_code == 200
    assert "cannot be read at this moment" in reply.text


def test_the_page_lists_the_files_that_exist(client: FlaskClient, world: World) -> None:
    assert "trust/signing_config.json" not in client.get("/").text
    world.documents["signing_config.json"] = {}
    assert "https://ca.example/trust/signing_config.json" in client.get("/").text


def test_a_service_without_issuers_still_has_a_page(world: World) -> None:
    bare = replace(world, issuers=IssuerDirectory(()))
    reply = bare.app().test_client().get("/")
    assert reply.status_code == 200
    assert "None yet" in reply.text


def test_the_trust_files_are_what_verifiers_load(client: FlaskClient, world: World) -> None:
    assert client.get("/trust/trusted_root.json").get_json() == world.trust.trusted_root()
    chain = x509.load_pem_x509_certificates(client.get("/trust/fulcio.pem").data)
    assert chain == list(world.authority.chain)
    assert client.get("/trust/ctlog.pub").text == world.trust.log_public_key_pem()
    assert client.get("/trust/ctlog.pub").headers["Access-Control-Allow-Origin"] == "*"


def test_a_trust_file_that_cannot_be_made_says_why(client: FlaskClient, world: World) -> None:
    for name in ("signing_config.json", "client_trust_config.json"):
        reply = client.get(f"/trust/{name}")
        assert reply.status_code == 404
        assert "--rekor" in reply.get_json()["message"]
        world.documents[name] = {"mediaType": "application/vnd.dev.sigstore.x"}
        assert client.get(f"/trust/{name}").get_json() == world.documents[name]


def test_liveness_asks_nothing(client: FlaskClient, world: World) -> None:
    world.checks["database"] = "it does not answer"
    assert client.get("/healthz").get_json() == {"status": "SERVING"}


def test_readiness_names_each_check(client: FlaskClient, world: World) -> None:
    reply = client.get("/readyz")
    assert (reply.status_code, reply.get_json()) == (
        200,
        {"status": "READY", "checks": {"database": "ok", "log": "ok"}},
    )
    world.checks["log"] = "the clock is behind"
    reply = client.get("/readyz")
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "5"
    assert reply.get_json() == {
        "status": "NOT_READY",
        "checks": {"database": "ok", "log": "the clock is behind"},
    }


def test_what_the_service_goes_on_without_leaves_it_ready(client: FlaskClient, world: World) -> None:
    world.extras["redis"] = "away"
    reply = client.get("/readyz")
    assert (reply.status_code, reply.get_json()["status"]) == (200, "DEGRADED")
    assert reply.get_json()["checks"]["redis"] == "away"
    world.checks["database"] = "away"
    reply = client.get("/readyz")
    assert (reply.status_code, reply.get_json()["status"]) == (503, "NOT_READY")
