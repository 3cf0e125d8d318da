"""Formats of other programs: what of ours has a home there, and how it is written and read."""
