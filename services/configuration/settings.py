"""Settings of configuration: none beyond what every service has."""

from __future__ import annotations

from shared.runtime.settings import Settings


class ConfigurationSettings(Settings):
    """Read from `MUSTER_CONFIGURATION_…`."""
