"""The files that verifiers need, as `ca-service export-trust` writes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from flask import Blueprint, Response

from ca_service.errors import NotFound
from ca_service.web.fulcio import chains_pem
from ca_service.web.replies import CACHED_FOR_MINUTES, PEM_CHAIN, allow_any_origin, bytes_reply, json_reply

PEM_PUBLIC_KEY = "application/x-pem-file"

NEEDS_REKOR = ("signing_config.json", "client_trust_config.json")
"""The documents that most clients refuse unless they name a Rekor, so they exist only once one is given."""


class TrustFiles(Protocol):
    """What makes trust material: authority.trust.TrustMaterial."""

    def chains(self) -> Sequence[Sequence[str]]:
        """Each chain as PEM texts, the issuing certificate first and the root last."""
        ...

    def trusted_root(self) -> Mapping[str, object]:
        """The trusted_root.json of this service."""
        ...

    def log_public_key_pem(self) -> str:
        """The log's public key as PEM."""
        ...


def blueprint(trust: TrustFiles, documents: Callable[[], Mapping[str, Mapping[str, object]]]) -> Blueprint:
    """Serve the trust files; `documents` returns those of NEEDS_REKOR that can be made, by file name."""
    calls = Blueprint("trust", __name__, url_prefix="/trust")
    allow_any_origin(calls)

    @calls.get("/trusted_root.json")
    def get_trusted_root() -> Response:
        return json_reply(trust.trusted_root(), cache=CACHED_FOR_MINUTES)

    @calls.get("/fulcio.pem")
    def get_fulcio_pem() -> Response:
        return bytes_reply(chains_pem(trust), PEM_CHAIN, cache=CACHED_FOR_MINUTES)

    @calls.get("/ctlog.pub")
    def get_ctlog_public_key() -> Response:
        return bytes_reply(trust.log_public_key_pem(), PEM_PUBLIC_KEY, cache=CACHED_FOR_MINUTES)

    @calls.get("/signing_config.json")
    def get_signing_config() -> Response:
        return document("signing_config.json")

    @calls.get("/client_trust_config.json")
    def get_client_trust_config() -> Response:
        return document("client_trust_config.json")

    def document(name: str) -> Response:
        found = documents().get(name)
        if found is None:
            raise NotFound(
                f"there is no {name}: this service was told of no Rekor, and clients refuse the file without "
                "one; make it with ca-service export-trust --rekor URL=KEY"
            )
        return json_reply(found, cache=CACHED_FOR_MINUTES)

    return calls
