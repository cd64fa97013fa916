"""A small Rekor v1: two kinds of entries in a real Merkle tree, so that stock clients complete their round.

No search, no storage, no checks of what is submitted; signatures, proofs and checkpoints are real.
"""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import merkle


class LocalRekor:
    """Serves POST /api/v1/log/entries; use as a context manager."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.log_id = hashlib.sha256(spki).digest()
        # No log of the world is empty, and sigstore-js leaves index 0 and an empty proof out of its bundles,
        # which sigstore-python then refuses to read.
        self.leaves = [merkle.leaf_hash(b"the first entry")]
        self.lock = threading.Lock()
        rekor = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                proposed = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = self.path == "/api/v1/log/entries" and proposed["kind"] in ("hashedrekord", "dsse")
                answer: dict[str, Any] = rekor.append(proposed) if known else {"code": 400}
                body = json.dumps(answer).encode()
                self.send_response(201 if known else 400)
                self.send_header("Content-Type", "application/json")
                if known:
                    (name,) = answer  # sigstore-go looks the entry up by this header
                    self.send_header("ETag", name)
                    self.send_header("Location", f"{self.path}/{name}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        # Who signs its checkpoints; sigstore-js: must occur in baseUrl.
        self.name = "127.0.0.1"
        self.url = f"http://{self.name}:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def write_key(self, path: Path) -> Path:
        """Write the log's public key as PEM."""
        path.write_bytes(
            self.key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return path

    def _sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def _checkpoint(self, size: int, root: bytes) -> str:
        # A tree's number in the origin is by what sigstore-go tells Rekor 1 from 2.
        text = f"{self.name} - 1\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self.log_id[:4] + self._sign(text.encode())).decode()
        return f"{text}\n— {self.name} {signature}\n"

    def append(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Log the entry and return it as Rekor does: one member, named by the leaf hash."""
        logged = _without_payload(proposed) if proposed["kind"] == "dsse" else proposed
        body = json.dumps(logged, sort_keys=True, separators=(",", ":")).encode()
        with self.lock:
            self.leaves.append(merkle.leaf_hash(body))
            leaves = list(self.leaves)
        index, root = len(leaves) - 1, merkle.root_of(leaves)
        entry: dict[str, Any] = {
            "body": base64.b64encode(body).decode(),
            "integratedTime": int(time.time()),
            "logID": self.log_id.hex(),
            "logIndex": index,
        }
        promise = self._sign(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())
        proof = {
            "logIndex": index,
            "treeSize": len(leaves),
            "rootHash": root.hex(),
            "hashes": [node.hex() for node in merkle.inclusion_path(index, leaves)],
            "checkpoint": self._checkpoint(len(leaves), root),
        }
        entry["verification"] = {
            "signedEntryTimestamp": base64.b64encode(promise).decode(),
            "inclusionProof": proof,
        }
        return {leaves[index].hex(): entry}


def _without_payload(proposed: dict[str, Any]) -> dict[str, Any]:
    """What Rekor keeps of an envelope: hashes, and each signature with who made it."""
    content = proposed["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])
    payload = base64.b64decode(envelope["payload"])
    octets = {"envelopeHash": content["envelope"].encode(), "payloadHash": payload}
    hashes_of = {
        name: {"algorithm": "sha256", "value": hashlib.sha256(value).hexdigest()}
        for name, value in octets.items()
    }
    signatures = [
        {"signature": each["sig"], "verifier": verifier}
        for each, verifier in zip(envelope["signatures"], content["verifiers"], strict=True)
    ]
    return {
        "apiVersion": proposed["apiVersion"],
        "kind": "dsse",
        "spec": hashes_of | {"signatures": signatures},
    }
