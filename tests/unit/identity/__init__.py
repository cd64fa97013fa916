"""Issuer file, claims to principal, templates and proof of possession."""
