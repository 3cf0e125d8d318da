"""Reads and writes the record of a run without torch."""
