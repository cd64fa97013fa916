"""No token, no e-mail address and no key in anything the service prints, whatever happens."""

from pathlib import Path

import pytest
import requests

from tests.support.processes import dev_service, running
from tests.support.signing import b64, bearer, issue, key_body, new_key, public_pem
from tests.support.tokens import TokenDesk
from tests.support.verifier import ask_ocsp, fetch_crl, ocsp_url

EMAIL = "a.private.person@example.com"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_full_run_leaves_nothing_personal_in_the_log(
    tmp_path: Path, session: requests.Session, level: str
) -> None:
    service = dev_service(tmp_path / "ca", workers=1, environ={"CASVC_LOGGING__LEVEL": level})
    with running(service):
        desk = TokenDesk(service)
        token = desk.token(EMAIL)
        issued = issue(session, service.url, token, EMAIL)
        folder = issued.write(tmp_path / "issued")
        ask_ocsp(folder, ocsp_url(issued.leaf))
        fetch_crl(session, issued.leaf)
        service.admin("revoke", "certificate", issued.serial, "--comment", f"stolen from {EMAIL}")
        stale = desk.mint(EMAIL, expires_in=-30)
        for bad in (stale, desk.mint(EMAIL, audience=EMAIL), desk.mint(EMAIL, claims={"sub": [EMAIL]})):
            reply = session.post(
                f"{service.url}/api/v2/signingCert",
                json=key_body(new_key(), EMAIL),
                headers=bearer(bad),
                timeout=60,
            )
            assert reply.status_code == 400 or bad is not stale
        wrong = key_body(new_key(), "x")
        session.post(f"{service.url}/api/v2/signingCert", json=wrong, headers=bearer(token), timeout=60)
        session.get(f"{service.url}/nowhere/{EMAIL}", params={"email": EMAIL}, timeout=60)
        session.get(f"{service.url}/healthz?token={token}", timeout=60)
        session.post(f"{service.url}/api/v2/signingCert", data=token, timeout=60)
    printed = service.output.read_text()
    assert "signingCert" in printed, "there is an access log"
    pieces = {
        "the address": EMAIL,
        "its name": "a.private.person",
        "the token's payload": token.split(".")[1][20:60],
        "the token's signature": token.split(".")[2][:40],
        "the stale token": stale.split(".")[2][:40],
        "the key": public_pem(issued.key).splitlines()[1],
        "the key, base64": b64(public_pem(issued.key).encode())[40:100],
    }
    found = [name for name, piece in pieces.items() if piece in printed]
    assert not found, found
