"""What a precertificate says beyond its log entry: the two have all but poison and signature in common."""

from ca_service.pki import der
from ca_service.pki.profile import with_last_extension
from ca_service.pki.sct import POISON, tbs_of_leaf

_POISON = der.extension(POISON, der.NULL, critical=True)


def beside_tbs(precertificate: bytes, tbs: bytes) -> bytes:
    """Algorithm and signature of a precertificate whose rest the logged TBSCertificate tells; else b"".

    From them `rebuilt` gives the same octets again (RFC 6962 §3.1 and §3.2).
    """
    try:
        poisoned = with_last_extension(tbs, _POISON)
        _, start, _ = der.header(precertificate)
    except ValueError:
        return b""
    beside = precertificate[start + len(poisoned) :]
    return beside if beside and der.sequence(poisoned, beside) == precertificate else b""


def rebuilt(leaf: bytes, beside: bytes) -> bytes:
    """The precertificate of a MerkleTreeLeaf, given what `beside_tbs` gave; raises ValueError."""
    return der.sequence(with_last_extension(tbs_of_leaf(leaf), _POISON), beside)
