"""Claims about ca_service.settings."""
