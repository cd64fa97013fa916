"""Claims about ca_service.cli."""
