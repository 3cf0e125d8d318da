"""The settings of a call: every default, bound and help text."""
