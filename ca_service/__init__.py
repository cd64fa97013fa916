"""ca-service: an ephemeral certificate authority for code signing, with revocation.

The rooms and the direction of imports are drawn in docs/design/architecture.md; import-linter holds them.
"""

__version__ = "0.1.0"
