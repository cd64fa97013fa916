"""The settings: one frozen model, read from a TOML file and the CASVC_… environment, with nothing unknown.

What a setting is, its default and its limits live here, and where each effective value came from. Nothing
is opened or connected: that is for the rooms that use a value.
"""

from ca_service.settings.model import Settings
from ca_service.settings.reading import load_settings

__all__ = ["Settings", "load_settings"]
