"""The real cosign, 2 and 3, against the service: `scripts/test-cosign` builds it and runs this."""
