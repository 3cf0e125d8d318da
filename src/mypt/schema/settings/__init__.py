"""Settings: defaults, bounds and help texts."""
