"""Claims about ca_service.telemetry."""
