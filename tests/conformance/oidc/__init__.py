"""The service and OpenID providers in processes of their own: honest, misbehaving, dead and renewed."""
