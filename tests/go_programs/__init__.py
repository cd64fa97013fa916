"""Programs in Go against the service, and beside it: `scripts/test-go-programs` builds them and runs this."""
