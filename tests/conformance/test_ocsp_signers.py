"""OCSP signed by the authority itself or by a delegate, judged by openssl, GnuTLS, pyHanko and by us."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko_certvalidator.errors import RevokedError

from tests.conformance.test_pyhanko import judge, ocsp_answer
from tests.support.processes import RunningService, dev_service, environment, http, running
from tests.support.signing import Issued, issue
from tests.support.tokens import TokenDesk
from tests.support.verifier import fetch_crl, ocsp_get_url, ocsp_url, openssl, read_ocsp_answer

EMAIL = "signers@example.com"


@pytest.fixture(scope="module")
def delegated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service whose answers delegates sign."""
    folder = tmp_path_factory.mktemp("delegated") / "ca"
    with running(dev_service(folder, environ={"CASVC_OCSP__SIGNER": "delegated"})) as started:
        yield started


@pytest.fixture(params=["authority", "delegated"])
def signing(request: pytest.FixtureRequest) -> RunningService:
    """A service in each mode."""
    name = "service" if request.param == "authority" else "delegated"
    found: RunningService = request.getfixturevalue(name)
    return found


Fresh = Callable[[RunningService], Issued]


@pytest.fixture
def fresh(session: requests.Session, tmp_path: Path) -> Fresh:
    def one(service: RunningService) -> Issued:
        issued = issue(session, service.url, TokenDesk(service).token(EMAIL), EMAIL)
        issued.write(tmp_path)
        return issued

    return one


def by_openssl(folder: Path, issued: Issued, digest: str = "sha256") -> str:
    """Ask with no other certificate at hand than the issuing one and the root."""
    text = openssl(
        *("ocsp", "-issuer", "issuing.pem", f"-{digest}", "-cert", "leaf.pem", "-nonce"),
        *("-url", ocsp_url(issued.leaf), "-CAfile", "root.pem"),
        folder=folder,
    )
    return read_ocsp_answer(text, "leaf.pem").status


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_openssl_finds_the_signer_in_the_answer(
    signing: RunningService, fresh: Fresh, tmp_path: Path, digest: str
) -> None:
    issued = fresh(signing)
    assert by_openssl(tmp_path, issued, digest) == "good"
    signing.admin("revoke", "certificate", issued.serial)
    assert by_openssl(tmp_path, issued, digest) == "revoked"


def test_openssl_asks_about_several_at_once_under_both_hashes(
    signing: RunningService, fresh: Fresh, tmp_path: Path
) -> None:
    other = fresh(signing)
    (tmp_path / "other.pem").write_bytes(other.leaf.public_bytes(Encoding.PEM))
    issued = fresh(signing)
    signing.admin("revoke", "certificate", other.serial)
    text = openssl(
        *("ocsp", "-issuer", "issuing.pem", "-sha1", "-cert", "leaf.pem", "-cert", "other.pem"),
        *("-sha256", "-cert", "other.pem", "-serial", "0x1234", "-resp_text"),
        *("-url", ocsp_url(issued.leaf), "-CAfile", "root.pem"),
        folder=tmp_path,
    )
    assert "Response verify OK" in text
    for said in ("leaf.pem: good", "other.pem: revoked", "0x1234: unknown"):
        assert said in text, text
    assert text.count("Cert Status:") == 4
    assert "Hash Algorithm: sha1" in text
    assert "Hash Algorithm: sha256" in text


def test_gnutls_trusts_an_answer_by_the_issuing_certificate_alone(
    signing: RunningService, fresh: Fresh, session: requests.Session, tmp_path: Path
) -> None:
    issued = fresh(signing)
    (tmp_path / "answer.der").write_bytes(ocsp_answer(session, issued, tmp_path))
    done = subprocess.run(
        ["ocsptool", "--verify-response", "--load-trust=issuing.pem", "--load-response=answer.der"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verifying OCSP Response: Success" in done.stdout


def test_pyhanko_accepts_then_says_revoked(
    signing: RunningService, fresh: Fresh, session: requests.Session, tmp_path: Path
) -> None:
    issued = fresh(signing)
    root_crl = fetch_crl(session, issued.issuing)
    judge(issued, crls=[root_crl], ocsps=[ocsp_answer(session, issued, tmp_path)])
    signing.admin("revoke", "certificate", issued.serial, "--reason", "superseded")
    with pytest.raises(RevokedError) as revoked:
        judge(issued, crls=[root_crl], ocsps=[ocsp_answer(session, issued, tmp_path)])
    assert revoked.value.revocation_dt == issued.leaf.not_valid_before_utc


def test_our_own_command_believes_either(signing: RunningService, fresh: Fresh, tmp_path: Path) -> None:
    issued = fresh(signing)
    good = signing.cli("status", tmp_path / "leaf.pem", "--json")
    assert (good.returncode, '"source": "ocsp"' in good.stdout) == (0, True), good
    signing.admin("revoke", "certificate", issued.serial)
    assert signing.cli("status", tmp_path / "leaf.pem").returncode == 1


def test_the_workers_share_one_delegate_and_follow_its_replacement_without_a_restart(
    delegated: RunningService, fresh: Fresh, tmp_path: Path
) -> None:
    issued = fresh(delegated)
    workers = {process.pid for process in delegated.workers()}
    openssl(
        *("ocsp", "-issuer", "issuing.pem", "-sha256", "-cert", "leaf.pem", "-reqout", "request.der"),
        folder=tmp_path,
    )
    url = ocsp_get_url(issued.leaf, (tmp_path / "request.der").read_bytes())

    def signers() -> set[x509.Certificate]:
        def ask(_: int) -> x509.Certificate:
            with http() as own:
                answer = ocsp.load_der_ocsp_response(own.get(url, timeout=60).content)
            (certificate,) = answer.certificates
            assert answer.next_update_utc is not None
            assert answer.next_update_utc <= certificate.not_valid_after_utc
            return certificate

        with ThreadPoolExecutor(16) as pool:
            return set(pool.map(ask, range(32)))

    (first,) = signers()
    usage = first.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert isinstance(first.extensions.get_extension_for_class(x509.OCSPNoCheck).value, x509.OCSPNoCheck)
    (file,) = (delegated.directory / "state").glob("ocsp-*.pem")
    assert x509.load_pem_x509_certificate(file.read_bytes()) == first
    file.unlink()
    # The nonce that openssl put into the request keeps caches out of this.
    (second,) = signers()
    assert second != first
    assert {process.pid for process in delegated.workers()} == workers
