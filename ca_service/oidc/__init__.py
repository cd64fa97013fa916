"""Identity tokens: discovery, JWKS and verification, with Authlib and joserfc.

Returns a VerifiedToken, which identity/ turns into a principal. Not here: HTTP itself (a Fetch is handed in),
and what claims mean.
"""
