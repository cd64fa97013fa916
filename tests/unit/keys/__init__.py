"""Claims about ca_service.keys."""
