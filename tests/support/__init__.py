"""What the tests drive the service with: processes, keys and requests, an OIDC issuer, a Rekor, log checks.

Nothing here imports ca_service: what judges the service must not share its code.
"""
