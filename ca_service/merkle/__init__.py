"""The Merkle tree of RFC 6962: hashes, proofs, tiles and checkpoints, as pure functions over bytes.

It knows leaves as opaque bytes. Not here: certificates, databases, files, keys, clocks.
"""
