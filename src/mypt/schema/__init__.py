"""Pydantic models of all settings and files; defaults, bounds and help texts are defined only here."""
