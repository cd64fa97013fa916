"""Token verification, keys and their cache, with an issuer that answers in the same process."""
