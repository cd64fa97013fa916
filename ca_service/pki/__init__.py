"""X.509 as pure functions: keys, certificate profile, SCTs, CRLs, OCSP and Sigstore's trust material.

Bytes and values in, bytes and values out. Not here: files, clocks, random sources (they are parameters), the
rules of when to issue or revoke, and anything of HTTP or SQL.
"""
