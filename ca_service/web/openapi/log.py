"""The description of the transparency log's calls."""

from ca_service.web.openapi.parts import (
    BASE64,
    JSON,
    NOT_MODIFIED,
    TAGGED,
    TIME,
    closed_object,
    operation,
    path_parameter,
    problems,
    query_number,
    reply,
)

_SHARD = path_parameter("shard", "The name of the log.", "^[a-z0-9-]{1,32}$", "2026")
_HASHES: JSON = {"type": "array", "items": BASE64}
_NUMBER: JSON = {"type": "integer", "minimum": 0}
_LEAF_HASH: JSON = {
    "name": "hash",
    "in": "query",
    "required": True,
    "description": "Base64 of the Merkle leaf hash, 32 octets.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9+/_-]{43}=?$"},
}

_ENTRY: JSON = {
    "leaf_input": {**BASE64, "description": "The MerkleTreeLeaf."},
    "extra_data": {**BASE64, "description": "The precertificate and its chain."},
}


def _get(name: str, summary: str, parameters: list[JSON], success: JSON, *statuses: int) -> JSON:
    in_path = [each for each in parameters if each["in"] == "path"]
    parameters = [each for each in parameters if each["in"] != "path"]
    return {
        "parameters": [_SHARD, *in_path],
        "get": operation(
            name,
            ["log"],
            summary,
            {"200": success, "304": NOT_MODIFIED, **problems(404, 412, *statuses)},
            parameters=parameters,
        ),
    }


def _refused(name: str) -> JSON:
    chain = {"type": "object", "properties": {"chain": {"type": "array", "items": {"type": "string"}}}}
    return {
        "parameters": [_SHARD],
        "post": operation(
            name,
            ["log"],
            "Always refused: this log takes entries from its own authority only",
            problems(403, 404, 410),
            requestBody={"content": {"application/json": {"schema": chain}}},
        ),
    }


def _json(description: str, members: JSON) -> JSON:
    return reply(description, "application/json", closed_object(members), headers=TAGGED)


_FILES = "/ctlog/{shard}"
_CT = f"{_FILES}/ct/v1"

_OCTETS = "application/octet-stream"
_BINARY: JSON = {"type": "string", "contentMediaType": _OCTETS}
_TILE = path_parameter(
    "tile",
    "The tile's number in groups of three digits, all but the last after an x; then .p/ and how many entries "
    "it has, when not 256.",
    r"^(x[0-9]{3}/)*[0-9]{3}(\.p/[1-9][0-9]{0,2})?$",
    "000.p/1",
)
_TIMES: JSON = {"start_inclusive": TIME, "end_exclusive": TIME}
_FINAL_HEAD = closed_object({"sha256_root_hash": BASE64, "tree_size": _NUMBER})
_DESCRIPTION: JSON = {
    "description": {"type": "string"},
    "log_id": BASE64,
    "key": {**BASE64, "description": "DER SubjectPublicKeyInfo."},
    "mmd": {**_NUMBER, "description": "Seconds."},
    "submission_url": {"type": "string", "format": "uri"},
    "monitoring_url": {"type": "string", "format": "uri"},
    "temporal_interval": {**closed_object(_TIMES), "description": "When its certificates expire."},
    "state": {
        "oneOf": [
            closed_object({"qualified": closed_object({"timestamp": TIME})}),
            closed_object({"usable": closed_object({"timestamp": TIME})}),
            closed_object({"readonly": closed_object({"timestamp": TIME, "final_tree_head": _FINAL_HEAD})}),
            closed_object({"retired": closed_object({"timestamp": TIME})}),
        ],
        "description": "qualified: prepared; usable: in use; readonly: frozen; retired: closed out of turn.",
    },
}

PATHS: JSON = {
    f"{_CT}/get-sth": _get(
        "getSth",
        "Get the newest signed tree head (RFC 6962 §4.3)",
        [],
        _json(
            "The tree head; the signature is over version, type, timestamp, size and root.",
            {
                "tree_size": _NUMBER,
                "timestamp": {**_NUMBER, "description": "Milliseconds since 1970."},
                "sha256_root_hash": BASE64,
                "tree_head_signature": BASE64,
            },
        ),
    ),
    f"{_CT}/get-entries": _get(
        "getEntries",
        "Get entries by index (RFC 6962 §4.6)",
        [
            query_number("start", "The first entry, counted from 0."),
            query_number("end", "The last entry, included; may lie beyond the tree."),
        ],
        _json(
            "One entry or more, maybe fewer than asked; ask again for the rest.",
            {"entries": {"type": "array", "items": closed_object(_ENTRY), "minItems": 1}},
        ),
    ),
    f"{_CT}/get-proof-by-hash": _get(
        "getProofByHash",
        "Prove that the log holds a leaf (RFC 6962 §4.5)",
        [_LEAF_HASH, query_number("tree_size", "The tree the proof is for.", minimum=1)],
        _json("Where the leaf is, and its audit path.", {"leaf_index": _NUMBER, "audit_path": _HASHES}),
    ),
    f"{_CT}/get-sth-consistency": _get(
        "getSthConsistency",
        "Prove that one tree extends another (RFC 6962 §4.4)",
        [
            query_number("first", "The smaller tree's size."),
            query_number("second", "The larger tree's size."),
        ],
        _json("The proof; empty when there is nothing to prove.", {"consistency": _HASHES}),
    ),
    f"{_CT}/get-entry-and-proof": _get(
        "getEntryAndProof",
        "Get one entry with its proof (RFC 6962 §4.8)",
        [
            query_number("leaf_index", "The entry, counted from 0."),
            query_number("tree_size", "The tree the proof is for.", minimum=1),
        ],
        _json("The entry and its audit path.", {**_ENTRY, "audit_path": _HASHES}),
    ),
    f"{_CT}/get-roots": _get(
        "getRoots",
        "List the roots that entries chain to (RFC 6962 §4.7)",
        [],
        _json("Base64 of DER certificates.", {"certificates": _HASHES}),
    ),
    f"{_CT}/add-chain": _refused("addChain"),
    f"{_CT}/add-pre-chain": _refused("addPreChain"),
    f"{_FILES}/checkpoint": _get(
        "getCheckpoint",
        "Get the newest tree head as a signed note",
        [],
        reply(
            "Origin, size, root and signature.",
            "text/plain; charset=utf-8",
            {"type": "string"},
            headers=TAGGED,
        ),
    ),
    f"{_FILES}/tile/{{level}}/{{tile}}": _get(
        "getTile",
        "Get a tile of up to 256 hashes (static-ct-api)",
        [
            path_parameter("level", "The height of its hashes in the tree, divided by 8.", "^[0-5]$", "0"),
            _TILE,
        ],
        reply("The hashes, 32 octets each.", _OCTETS, _BINARY, headers=TAGGED),
    ),
    f"{_FILES}/tile/data/{{tile}}": _get(
        "getDataTile",
        "Get a tile of up to 256 entries (static-ct-api)",
        [_TILE],
        reply(
            "The TileLeaf of each entry, one after the other; gzip when the caller takes it.",
            _OCTETS,
            _BINARY,
            headers=TAGGED,
        ),
    ),
    f"{_FILES}/issuer/{{fingerprint}}": _get(
        "getIssuer",
        "Get a certificate that data tiles name",
        [path_parameter("fingerprint", "SHA-256 of the certificate's DER.", "^[0-9a-f]{64}$", "0" * 64)],
        reply("The certificate in DER.", "application/pkix-cert", _BINARY, headers=TAGGED),
    ),
    f"{_FILES}/log.v3.json": _get(
        "getLogDescription",
        "Describe the log, as lists of logs do",
        [],
        _json("Key, addresses and state.", _DESCRIPTION),
    ),
}
