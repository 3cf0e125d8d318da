"""Trackers that show what the log of a run holds: while it trains, and from the log afterwards."""
