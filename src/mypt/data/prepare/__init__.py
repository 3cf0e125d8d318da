"""Converts text of any size to token shards."""
