"""One suite for each port of the authority, run on every adapter of it."""
